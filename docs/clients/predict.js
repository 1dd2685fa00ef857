// Asks a server for running sums by gRPC: node predict.js localhost:8500 381 4 99
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const grpc = require("@grpc/grpc-js");
const { loadFileDescriptorSetFromBuffer } = require("@grpc/proto-loader");

const descriptors = readFileSync(join(__dirname, "serving.pb"));
const { tensorflow } = grpc.loadPackageDefinition(
  loadFileDescriptorSetFromBuffer(descriptors, { keepCase: true, enums: String, defaults: true }),
);

// In a descriptor set a map is a list of entries.
const entriesOf = (map) => Object.entries(map).map(([key, value]) => ({ key, value }));
const mapOf = (entries) => Object.fromEntries(entries.map(({ key, value }) => [key, value]));
const shapeOf = (sizes) => ({ dim: sizes.map((size) => ({ size })) });
const strings = (values, sizes) => ({
  dtype: "DT_STRING",
  tensor_shape: shapeOf(sizes),
  string_val: values.map((value) => Buffer.from(value)),
});
const int32s = (values, sizes) => ({
  dtype: "DT_INT32",
  tensor_shape: shapeOf(sizes),
  int_val: values,
});

const [address, ...numbers] = process.argv.slice(2);
if (!address || numbers.length < 2) {
  console.error("usage: node predict.js HOST:PORT NUMBER NUMBER ...");
  process.exit(2);
}
const request = {
  model_spec: { name: "act_addition", signature_name: "serve" },
  inputs: entriesOf({
    numbers: strings(numbers, [1, numbers.length]),
    lengths: int32s([numbers.length], [1]),
  }),
};
const { PredictionService } = tensorflow.serving;
const service = new PredictionService(address, grpc.credentials.createInsecure());
const deadline = Date.now() + 60_000;
service.Predict(request, { deadline }, (error, response) => {
  service.close();
  if (error) {
    console.error(`${address} answered ${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
    return;
  }
  const { sums, updates } = mapOf(response.outputs);
  console.log("sums", ...sums.string_val.slice(1).map(String));
  // A server sends numbers one by one or as bytes.
  const content = Buffer.from(updates.tensor_content);
  const counts = updates.float_val.length
    ? updates.float_val
    : numbers.map((_, place) => content.readFloatLE(4 * place));
  console.log("updates", ...counts);
});
