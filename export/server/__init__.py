"""The embedded server, by gRPC and REST: answers as TensorFlow Serving does.

- Its contract is `tests/test_contract.py`, a table of requests, codes and texts that also runs
  against a real TensorFlow Serving named by `TFS_ADDRESS` and `TFS_REST`. A text that is wrong
  there is wrong here.
- A version is used under a lease (`Models.use`). What is no longer wanted is retired and freed by
  whoever gives the last lease back, so a swap waits for nobody. Loading, retiring and reloading
  happen one at a time; requests take only the short lock of the tables.
- A version that failed is tried again, then left alone until another directory has its name. At
  the start a failure ends the server: nobody waits for ports that never open. So does a model
  without a version, for which the stock server waits with all ports closed, and which a reload
  refuses, where the stock server never answers. One version that a policy names may be missing as
  long as another is there.
- A run cannot be ended alone, only all of a session's. So where one goes on that nobody waits for,
  another session with threads of its own takes over, the old one is closed, and requests that
  somebody waits for run again (`Models._end_forsaken`).
- What never waits for a run (status, health, metadata) has a pool of its own.
- JSON is read by orjson and, where that refuses, by rapidjson, the stock server's parser: its words
  and offsets come from there, and what is legal only there. Values are taken in blocks, between
  which the `Caller` is asked whether to go on.
- No call into C may hold Python's lock for long, or nobody is told the status: large bodies and
  messages are read in other processes (`_readers.py`), unless their bytes are such as protobuf
  copies at once (`_reading.weight`); answers are written in parts. gRPC parses nothing, since it
  would do so in the one thread that takes all calls. To take 40 MB in still holds the lock for some
  30 ms in gRPC's own code, to send as much for 20.
- Bounds of messages, which the stock server does not have: 4 MiB where there are neither tensors
  nor examples, 64 KiB beside these, 1,000 inputs.
- `TF_CloseSession` ends runs that are under way, which is how a stop keeps its grace. A run's
  deadline is TensorFlow's own timeout.
- Batching follows TensorFlow Serving's scheduler, but a request of another type than its
  neighbours gets a batch of its own. Padding and splitting of large requests together crash the
  stock server (its `Concat` checks sizes), so packages do not ask for splitting.
- What TensorFlow says of a run is told without the nodes of the graph, which callers do not know
  (`_session.in_words`); the stock server tells them.
- Left out on purpose: grpc.aio (measured: no faster, and slower at 32 clients), and running small
  graphs in the caller's thread (15 to 20 % faster, but TensorFlow then ignores the deadline).
"""
