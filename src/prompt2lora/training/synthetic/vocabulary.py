"""Words that synthetic tasks are made of. Data only; every list is ours."""

WORDS = (
    "anchor basket candle dragon engine falcon garden hammer island jacket kettle ladder magnet needle orchid pencil "
    "rabbit saddle tunnel velvet window yellow zipper bridge carpet desert eleven forest guitar helmet insect jungle "
    "kitten lemon mirror napkin office parrot quartz ribbon silver teapot urgent violin walnut copper donkey ember "
    "fabric ginger harbor iceberg jigsaw kernel lantern market nickel oyster pepper rocket sponge tomato valley winter "
    "blanket cabinet diamond elephant feather grocery holiday journal kingdom library monster network octopus picture "
    "quality rainbow science thunder uniform village whisper alarm bacon cabin daisy eagle flute grape honey ivory jelly "
    "koala lilac mango noodle olive panda queen raven salad tiger umbra vapor whale yacht zebra apron brick cloud drum "
    "earth field glove house input juice knife label mouse night ocean paint quick river stone train under value water"
).split()
NAMES = "Anna Ben Carla David Emma Felix Grace Henry Ines Jonas Keiko Luca Maria Nina Oscar Paula Rita Sato Tom Vera".split()
CITIES = "Osaka Berlin Lyon Madrid Porto Oslo Dublin Turin Kyoto Prague Vienna Nagoya Boston Denver Lima Quito".split()
COLOURS = "red blue green black white grey orange purple brown pink".split()
PRODUCTS = (
    "pump valve bearing gasket sensor filter motor switch cable bracket spring nozzle hose clamp relay fuse belt "
    "printer chair desk lamp monitor keyboard folder shredder scanner headset router"
).split()
MACHINES = "press lathe mill grinder welder conveyor oven mixer robot cutter crane furnace".split()
DEFECTS = "scratch dent crack leak rust burr stain chip bubble misprint".split()
ROOMS = "lobby kitchen warehouse garage attic cellar archive canteen workshop loading-bay".split()
SUPPLIERS = "Norvik Altman Brixton Calder Dorsey Evermont Falkner Gorham Hexley Ironbay".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MATERIALS = "steel copper rubber glass brass plastic timber ceramic nylon leather".split()
STATUSES = "open closed waiting shipped cancelled paid late approved rejected blocked".split()
CATEGORIES = {
    "fruit": "apple pear plum cherry melon peach grape mango lemon fig".split(),
    "tool": "hammer saw drill wrench chisel pliers file plane level shovel".split(),
    "vehicle": "truck tram bicycle van ferry train scooter tractor bus taxi".split(),
    "furniture": "chair table sofa shelf bench stool desk wardrobe cabinet bed".split(),
    "drink": "tea coffee milk juice water cocoa lemonade cider soda broth".split(),
    "clothing": "shirt coat scarf glove hat sock belt skirt jacket boot".split(),
    "instrument": "violin flute drum piano harp trumpet guitar cello oboe banjo".split(),
    "weather": "rain snow fog hail wind storm frost sleet thunder drizzle".split(),
    "animal": "horse cow sheep goat pig wolf fox bear deer rabbit otter badger camel donkey squirrel hedgehog".split(),
    "bird": "eagle robin swan goose duck owl crow sparrow stork pigeon falcon parrot heron finch".split(),
    "insect": "ant bee wasp beetle moth fly mosquito cricket locust ladybird".split(),
    "vegetable": "carrot onion cabbage spinach leek turnip radish pumpkin celery potato bean pea".split(),
    "metal": "iron gold silver zinc tin nickel lead cobalt titanium chromium".split(),
    "country": "Japan France Brazil Kenya Norway Canada India Peru Egypt Poland Chile Greece Turkey Spain".split(),
    "job": "baker plumber nurse teacher lawyer farmer pilot tailor butcher dentist cook mason welder".split(),
    "sport": "tennis rowing boxing golf judo hockey swimming fencing cycling rugby cricket volleyball".split(),
    "feeling": "anger joy fear pride envy hope shame grief relief boredom".split(),
    "kitchenware": "pan pot fork spoon bowl whisk ladle kettle plate mug grater".split(),
    "tree": "oak birch pine maple willow cedar elm spruce beech poplar".split(),
    "flower": "rose tulip lily daisy violet poppy orchid iris peony".split(),
    "stationery": "pencil eraser ruler stapler notebook envelope marker folder paperclip crayon".split(),
    "building": "church school hospital castle museum factory barn stadium library station".split(),
    "relative": "mother uncle cousin sister nephew grandfather aunt brother daughter".split(),
    "language": "Japanese French Polish Swahili Turkish Greek Finnish Korean Danish Arabic".split(),
    "shape": "circle square triangle cube sphere cone hexagon oval cylinder pyramid".split(),
    "ship": "canoe ferry yacht tanker barge kayak frigate dinghy raft".split(),
    "spice": "pepper cinnamon saffron ginger paprika cumin nutmeg basil thyme vanilla".split(),
    "subject": "history physics biology geography algebra chemistry grammar music".split(),
}
VERBS = (
    "bought sold found lost sent painted cleaned moved carried repaired opened measured checked dropped washed".split()
)
SURNAMES = (
    "Miller Tanaka Rossi Novak Silva Schmidt Garcia Dubois Larsen Kowalski Suzuki Fischer Romano Jensen Moreau "
    "Weber Santos Nakamura Horvat Keller Lindqvist Okada Petrov Marino Brandt"
).split()
LABELS = (
    "A B C D 1 2 3 4 yes no true false ok stop go hold keep drop red green blue left right up down high low north south "
    "alpha beta gamma delta accept reject urgent normal hot cold fast slow even odd none all night day sun moon lion "
    "bear ink tea oak gate lamp desk sales store repair Q1 Q2 K7 X9 P0 T-1 T-2 unit-a unit-b"
).split()
_MORE = (
    "able about absent access account acorn actor adult advice after again agent airport album almond amber ancient angle "
    "animal answer apart april arch armor arrow artist aspect atlas attic august author autumn avenue award balance "
    "ballet banana banner barrel battery beacon beauty before belief bottle bottom brain branch bread breeze bright broken "
    "bronze brother budget bullet butter button calm camera canal carbon career careful castle cattle cause center chance "
    "change chapter cheese cherry chess chicken choice circle citizen clean clever climb clinic coast coffee collar column "
    "common cotton course cousin cover credit crowd crystal culture current curtain custom dance danger daring dealer debate "
    "decade degree demand depend desire detail device dinner direct doctor dollar double dozen dream driver dusty eager "
    "early easy editor effect effort empty energy enough entry equal error escape even evening event exact example exit "
    "expert extra fabric factor family famous farmer fashion father feature fence fever figure final finger finish fisher "
    "flame flavor flight flower follow force formal fortune forward fourth freeze friend frozen future gallery gentle giant "
    "glory golden govern grain grand gravity ground growth habit handle happy hazard health heavy height hidden hollow "
    "honest hotel hunter hurry idea image impact income index inner insist iron item jealous joint jolly judge jump just "
    "keen kind label labor large laser latter laugh launch layer leader legal lesson letter level light limit linen liquid "
    "listen local logic lonely loyal lucky lunch machine magic major manner margin marine master matter meadow meal medal "
    "member memory mental method middle minor mirror mixed model modest moment morning motion muscle music mutual narrow "
    "nation nature nearby neat nephew nervous neutral noble noise normal notice novel object obtain odd offer often open "
    "option orange order origin other outer owner packet palace paper parade parent patient patrol peace people perfect "
    "period person phrase piano piece pilot pirate planet player plenty pocket poem police polite portal postal potato "
    "powder praise prefer pretty price prince prize profit proof proper public puzzle rabbit radar random rapid rather "
    "reader ready reason record reform region relax remain remote rescue result return reward rhythm rough round royal "
    "rubber ruling rural safety sailor sample school screen season second secret senior series shadow share sharp shelter "
    "shield shore signal simple single sister skill sleep smooth social soldier source space speech spirit square stable "
    "station steady storm story strange stream street strong studio summer supply surface sweet switch symbol system talent "
    "target temple theory thirsty thread ticket timber tissue title toward trade travel treaty trend tribal trophy trust "
    "twelve twin union unique until upper urban useful vacant valid vast vendor verse victim view virtue visit vital voice "
    "volume voyage wagon wander warm wealth weapon weekly weight welcome west wheel whole wide window wisdom wonder wooden "
    "world worthy writer yard yearly young zone"
).split()
_ALL = {*WORDS, *_MORE, *(word for members in CATEGORIES.values() for word in members)}
EVERY_WORD = sorted(word for word in _ALL if word.islower() and len(word) > 4)
# What people write to a firm, by topic; {p} a product, {c} a city, {n} a number, {d} a day.
MESSAGES = {
    "delivery": (
        "Where is my parcel? It should have come on {d}.",
        "The {p} was sent to {c} instead of to us.",
        "When will the {n} boxes be shipped?",
        "The truck for {c} did not arrive on {d}.",
        "Please tell me the tracking state of the {p}.",
    ),
    "invoice": (
        "We were charged twice for the {p}.",
        "Please send the bill for {n} pieces again.",
        "The amount on the invoice is {n} too high.",
        "Has our payment for the {p} been booked?",
        "The tax on last {d}'s bill is wrong.",
    ),
    "password": (
        "I cannot log in since {d}.",
        "My account is locked after {n} wrong tries.",
        "Please reset the login of the office in {c}.",
        "The system says that my password has expired.",
        "I forgot the code for the {p} terminal.",
    ),
    "repair": (
        "The {p} makes a loud noise and stops.",
        "Smoke comes out of the {p} in hall {n}.",
        "The {p} has been broken since {d}, please send a technician.",
        "Oil drips from the {p} all day.",
        "The {p} will not start any more.",
    ),
    "leave": (
        "I would like to take {n} days off from {d}.",
        "I am ill and stay at home until {d}.",
        "Can I swap my shift on {d}?",
        "My holiday request for {c} is still not approved.",
        "I will be away for {n} days next month.",
    ),
    "order": (
        "We need {n} more of the {p}.",
        "Please add one {p} to our purchase.",
        "Can I buy {n} pieces for our site in {c}?",
        "I want to order a {p} before {d}.",
        "Send us an offer for {n} of the {p}.",
    ),
    "praise": (
        "Thank you, the {p} works perfectly.",
        "Great service by your team in {c}!",
        "We are very happy with the {n} new parts.",
        "Your driver on {d} was kind and fast.",
        "The best {p} we ever had.",
    ),
    "meeting": (
        "Shall we meet on {d} at {n} o'clock?",
        "Please move the call with {c} to {d}.",
        "The room for the talk on the {p} is booked.",
        "Who takes part in the meeting in {c}?",
        "The agenda has {n} points, see you on {d}.",
    ),
}
