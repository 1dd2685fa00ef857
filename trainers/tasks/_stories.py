"""Twenty families of small stories with a question, each of a kind of reasoning.

They ask for what the families of bAbI ask for (Weston et al., 2015), in words and worlds of our
own, so that numbers on the two do not compare. Each family is a function of `random.Random` that
gives statements, a question and its answer, which is one word, or several with `+` between them.
"""

import itertools

PEOPLE = "anna ben carla dario ella felix".split()  # noqa: SIM905
WOMEN = {"anna", "carla", "ella"}
PLACES = "attic cellar garden kitchen office shed".split()  # noqa: SIM905
THINGS = "apple book coin cup lamp rope".split()  # noqa: SIM905
KINDS = "cat dog hen owl".split()  # noqa: SIM905
PETS = "tom rex mia kim".split()  # noqa: SIM905
COLOURS = "black grey red white".split()  # noqa: SIM905
BOXES = "chest box basket tin jar".split()  # noqa: SIM905
STEPS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
BACK = {"north": "south", "south": "north", "east": "west", "west": "east"}
COUNTS = "none", "one", "two"
DAYS = "yesterday", "this morning", "at noon", "tonight"
MOTIVES = {"hungry": "kitchen", "cold": "cellar", "bored": "garden", "busy": "office"}
MOVES = "went to", "walked to", "ran to"
FAMILIES = {}
PLAIN = """a above afraid and are at before below bored did does dropped fit from gave go got he
hold how in is it larger left many maybe morning no noon not nothing of or ran right
she than the then they things this to tonight took walked was way went what where
which who why will yes yesterday colour . ?"""
MOST_WORDS = 64  # of statements and question, with full stops


def family(function):
    """Adds a family by the name of its function."""
    FAMILIES[function.__name__] = function
    return function


def vocabulary():
    """All words of questions and statements, and all answers."""
    pairs = ["+".join(pair) for pair in itertools.combinations(THINGS, 2)]
    ways = [f"{one}+{two}" for one in STEPS for two in STEPS if two != BACK[one]]
    named = PEOPLE, PLACES, THINGS, KINDS, [f"{kind}s" for kind in KINDS], PETS, COLOURS, BOXES
    words = itertools.chain(*named, STEPS, MOTIVES, COUNTS, PLAIN.split(), pairs, ways)
    return tuple(dict.fromkeys(words))


def _walks(rng, count):
    """Statements of people who go somewhere, and where each of them is in the end."""
    told, where = [], {}
    for _ in range(count):
        who, place = rng.choice(PEOPLE), rng.choice(PLACES)
        told.append(f"{who} {rng.choice(MOVES)} the {place}")
        where[who] = place
    return told, where


@family
def one_fact(rng):
    told, where = _walks(rng, rng.randint(2, 6))
    who = rng.choice(list(where))
    return told, f"where is {who}", where[who]


def _carried(rng):
    """Someone takes a thing from place to place, among walks of others."""
    who, thing = rng.choice(PEOPLE), rng.choice(THINGS)
    places = rng.sample(PLACES, rng.randint(2, 3))
    told = [f"{who} took the {thing}"]
    told += [f"{who} {rng.choice(MOVES)} the {place}" for place in places]
    others = [name for name in PEOPLE if name != who]
    for _ in range(rng.randint(0, 3)):
        walk = f"{rng.choice(others)} {rng.choice(MOVES)} the {rng.choice(PLACES)}"
        told.insert(rng.randint(0, len(told)), walk)
    return told, who, thing, places


@family
def two_facts(rng):
    told, who, thing, places = _carried(rng)
    if rng.random() < 0.5:
        told += [f"{who} dropped the {thing}", f"{who} went to the {rng.choice(PLACES)}"]
    return told, f"where is the {thing}", places[-1]


@family
def three_facts(rng):
    told, _, thing, places = _carried(rng)
    return told, f"where was the {thing} before the {places[-1]}", places[-2]


@family
def two_relations(rng):
    north, middle, south = rng.sample(PLACES, 3)
    told = [f"the {north} is north of the {middle}", f"the {south} is south of the {middle}"]
    rng.shuffle(told)
    return (
        told,
        *rng.choice(
            [
                (f"what is north of the {middle}", north),
                (f"what is south of the {middle}", south),
                (f"what is south of the {north}", middle),
                (f"what is north of the {south}", middle),
            ]
        ),
    )


@family
def three_relations(rng):
    told, found = [], []
    for thing in rng.sample(THINGS, rng.randint(2, 3)):
        giver, taker = rng.sample(PEOPLE, 2)
        told.append(f"{giver} gave the {thing} to {taker}")
        found += [(f"who gave the {thing}", giver), (f"who got the {thing}", taker)]
    return told, *rng.choice(found)


@family
def yes_or_no(rng):
    told, where = _walks(rng, rng.randint(2, 6))
    who = rng.choice(list(where))
    place = where[who] if rng.random() < 0.5 else rng.choice(PLACES)
    return told, f"is {who} in the {place}", "yes" if place == where[who] else "no"


def _held(rng):
    """Someone takes and drops things; those that are still held, in the order of `THINGS`."""
    who, held, told = rng.choice(PEOPLE), [], []
    for _ in range(rng.randint(2, 5)):
        free = [thing for thing in THINGS if thing not in held]
        if held and (len(held) == 2 or rng.random() < 0.4):
            held.remove(thing := rng.choice(held))
            told.append(f"{who} dropped the {thing}")
        else:
            held.append(thing := rng.choice(free))
            told.append(f"{who} took the {thing}")
    return told, who, sorted(held)


@family
def counting(rng):
    told, who, held = _held(rng)
    return told, f"how many things does {who} hold", COUNTS[len(held)]


@family
def sets(rng):
    told, who, held = _held(rng)
    return told, f"what does {who} hold", "+".join(held) or "nothing"


@family
def negation(rng):
    told, is_there = [], {}
    for _ in range(rng.randint(2, 5)):
        who, place, there = rng.choice(PEOPLE), rng.choice(PLACES), rng.random() < 0.5
        told.append(f"{who} is {'' if there else 'not '}in the {place}")
        is_there[who] = place, there
    who = rng.choice(list(is_there))
    place, there = is_there[who]
    return told, f"is {who} in the {place}", "yes" if there else "no"


@family
def maybe(rng):
    told, found = [], []
    for who in rng.sample(PEOPLE, rng.randint(2, 4)):
        one, other, third = rng.sample(PLACES, 3)
        if rng.random() < 0.6:
            told.append(f"{who} is in the {one} or the {other}")
            found.append((who, rng.choice([(one, "maybe"), (other, "maybe"), (third, "no")])))
        else:
            told.append(f"{who} is in the {one}")
            found.append((who, rng.choice([(one, "yes"), (other, "no")])))
    who, (place, answer) = rng.choice(found)
    return told, f"is {who} in the {place}", answer


@family
def pronoun(rng):
    told, where = [], {}
    for who in rng.sample(PEOPLE, rng.randint(1, 3)):
        first, where[who] = rng.sample(PLACES, 2)
        told.append(f"{who} {rng.choice(MOVES)} the {first}")
        it = "she" if who in WOMEN else "he"
        told.append(f"then {it} {rng.choice(MOVES)} the {where[who]}")
    who = rng.choice(list(where))
    return told, f"where is {who}", where[who]


@family
def two_people(rng):
    told, where = [], {}
    for _ in range(rng.randint(2, 4)):
        two, place = rng.sample(PEOPLE, 2), rng.choice(PLACES)
        told.append(f"{' and '.join(two)} {rng.choice(MOVES)} the {place}")
        where |= dict.fromkeys(two, place)
    who = rng.choice(list(where))
    return told, f"where is {who}", where[who]


@family
def pronoun_of_two(rng):
    told, where = [], {}
    for _ in range(rng.randint(1, 3)):
        two, (first, last) = rng.sample(PEOPLE, 2), rng.sample(PLACES, 2)
        told.append(f"{' and '.join(two)} {rng.choice(MOVES)} the {first}")
        told.append(f"then they {rng.choice(MOVES)} the {last}")
        where |= dict.fromkeys(two, last)
    who = rng.choice(list(where))
    return told, f"where is {who}", where[who]


@family
def times(rng):
    who, places = rng.choice(PEOPLE), rng.sample(PLACES, len(DAYS))
    visits = [f"{day} {who} was in the {place}" for day, place in zip(DAYS, places)]
    told, last = rng.sample(visits, len(visits)), rng.randint(1, len(DAYS) - 1)
    return told, f"where was {who} before the {places[last]}", places[last - 1]


@family
def deduction(rng):
    turn = rng.randint(1, len(KINDS) - 1)
    feared = dict(zip(KINDS, KINDS[turn:] + KINDS[:turn]))
    kinds = dict(zip(PETS, rng.sample(KINDS, len(PETS))))
    told = [f"{kind}s are afraid of {other}s" for kind, other in feared.items()]
    told += [f"{pet} is a {kind}" for pet, kind in kinds.items()]
    pet = rng.choice(PETS)
    return rng.sample(told, len(told)), f"what is {pet} afraid of", f"{feared[kinds[pet]]}s"


@family
def induction(rng):
    colours = dict(zip(KINDS, rng.sample(COLOURS, len(KINDS))))
    pets = rng.sample(PETS, 4)
    one, other = rng.sample(KINDS, 2)
    kinds = dict(zip(pets, (one, other, one, other)))
    told = [f"{pet} is a {kind}" for pet, kind in kinds.items()]
    told += [f"{pet} is {colours[kinds[pet]]}" for pet in pets[:2]]
    asked = rng.choice(pets[2:])
    return rng.sample(told, len(told)), f"which colour is {asked}", colours[kinds[asked]]


@family
def position(rng):
    one, middle, other = rng.sample(BOXES, 3)
    first, second = rng.choice([("above", "below"), ("left of", "right of")])
    told = [f"the {one} is {first} the {middle}"]
    told.append(
        rng.choice(
            [f"the {middle} is {first} the {other}", f"the {other} is {second} the {middle}"]
        )
    )
    relation = rng.choice([first, second])
    return (
        rng.sample(told, 2),
        f"is the {one} {relation} the {other}",
        "yes" if relation == first else "no",
    )


@family
def size(rng):
    order = rng.sample(BOXES, 4)
    told = [f"the {a} is larger than the {b}" for a, b in itertools.pairwise(order)]
    large, small = sorted(rng.sample(range(4), 2))
    if rng.random() < 0.5:
        return rng.sample(told, 3), f"is the {order[large]} larger than the {order[small]}", "yes"
    return rng.sample(told, 3), f"will the {order[large]} fit in the {order[small]}", "no"


@family
def path(rng):
    start, middle, end = rng.sample(PLACES, 3)
    first = rng.choice(list(STEPS))
    second = rng.choice([step for step in STEPS if step != BACK[first]])
    told = [
        f"the {middle} is {first} of the {start}",
        f"the {middle} is {BACK[second]} of the {end}",
    ]
    question = f"which way is it from the {start} to the {end}"
    return rng.sample(told, 2), question, f"{first}+{second}"


@family
def motive(rng):
    told, found = [], []
    for who in rng.sample(PEOPLE, rng.randint(1, 3)):
        why = rng.choice(list(MOTIVES))
        told.append(f"{who} is {why}")
        if rng.random() < 0.5:
            told.append(f"{who} {rng.choice(MOVES)} the {MOTIVES[why]}")
            found.append((f"why did {who} go to the {MOTIVES[why]}", why))
        else:
            found.append((f"where will {who} go", MOTIVES[why]))
    return told, *rng.choice(found)
