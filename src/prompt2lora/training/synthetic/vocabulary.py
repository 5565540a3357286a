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
}
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
