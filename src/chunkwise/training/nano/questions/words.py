"""Words that names and values are made of."""

# ruff: noqa: SIM905 - lists of one word a line would be thousand lines

from __future__ import annotations

WOMEN = (
    "Anna Alice Amelia Beatrice Bella Carla Clara Diana Dora Edith Elena Ella Emma Erica Eva "
    "Fiona Flora Gina Grace Greta Hanna Helen Ida Ines Irene Jane Joan Julia Karen Kate Laura "
    "Lena Lily Linda Lucy Maria Martha Mary Maya Mila Mona Nadia Nina Nora Olga Paula Petra "
    "Rita Rosa Ruth Sara Selma Sofia Stella Susan Tara Tessa Vera Violet Wilma"
).split()
MEN = (
    "Adam Albert Alan Anton Arthur Basil Ben Boris Bruno Carl Cedric Colin Conrad Daniel "
    "David Dennis Edgar Edwin Emil Eric Felix Frank Fred George Gilbert Gustav Harold Harry "
    "Henry Hugo Ian Ivan Jack Jacob James Jonas Julian Karl Kurt Leo Louis Lucas Marco Mark "
    "Martin Max Oliver Oscar Otto Paul Peter Philip Ralph Robert Roger Simon Theo Thomas "
    "Victor Walter"
).split()
FIRSTS = (
    "Bel Bor Bran Cal Cor Dal Dor Dra Fal Fen Gal Gor Gra Hal Hol Jan Kal Kel Kor Lan Lor Mal "
    "Mar Mer Mol Nar Nel Nor Ol Par Pel Quin Ral Ren Ros Sal Sel Sor Tal Tam Tor Tul Ul Val "
    "Vel Vor Wal Wen Yar Yor Zan Zel"
).split()
MIDDLES = ("a e i o u ab ad am an ar el en er il in or ul un").split()
LASTS = (
    "bek berg bin dak dan den din dor fen gan gar gin gol kan ker kin lan lek lin lo man mar "
    "min mor nak nar nel nik nor pan per pin rak ran rik rin ros sen sin sko tan tar tin tok "
    "van vek vin vor wen wick win zan zin zo"
).split()
TOWN_ENDS = (
    "bridge burg bury cliff dale field ford ham haven mark mouth port stad ton wold"
).split()
CITIES = (
    "Athens Berlin Bergen Boston Cairo Chicago Cork Dakar Delhi Denver Dublin Geneva Genoa "
    "Ghent Hanoi Havana Kyoto Lagos Leeds Leipzig Lima Lisbon London Lyon Madrid Malta Milan "
    "Moscow Munich Nairobi Naples Oslo Osaka Oxford Paris Perth Porto Prague Quito Riga Rome "
    "Seoul Sydney Tokyo Toledo Tunis Turin Vienna Warsaw York Zurich"
).split()
COLOURS = (
    "black blue brass brown bronze copper cracked crooked dusty empty faded folded glass "
    "golden green grey heavy hollow iron ivory leather linen locked narrow old orange painted "
    "paper pink plain polished purple red round rusty sealed silver small square steel stone "
    "striped tall torn velvet white wide wooden worn yellow"
).split()
THINGS = (
    "anchor axe bag ball banner barrel basin basket bell belt blanket boat book bottle bowl "
    "box bracelet brush bucket button cabinet candle cane cap card cart case chain chair "
    "chest clock cloak coat coin comb compass crown cup desk diary dish door drum fan feather "
    "flag flute fork frame glove hammer hat helmet hook horn jar jug kettle key knife ladder "
    "lamp lantern letter lock map mask mirror mug nail needle net oar paddle pan pen pipe "
    "plate pot purse ring rope rug saddle sail saw scarf shield shirt shoe spade spoon stamp "
    "statue stick stool sword table tent ticket torch towel tray trunk umbrella vase vest "
    "violin wagon wallet watch wheel whistle"
).split()
ANIMALS = (
    "Badger Bear Beetle Bull Camel Cat Cobra Crane Crow Deer Dog Dove Eagle Falcon Fox Frog "
    "Goose Hare Hawk Heron Horse Hound Lark Lion Lynx Mole Moth Otter Owl Panther Raven Robin "
    "Salmon Seal Shark Snake Sparrow Spider Stag Stork Swan Tiger Turtle Wasp Whale Wolf Wren"
).split()
TRAITS = (
    "Ancient Bold Bright Broken Calm Clever Cold Crimson Dark Distant Fierce Gentle Golden "
    "Grey Hidden Iron Lazy Little Lonely Lost Lucky Mad Noble Pale Proud Quiet Quick Red "
    "Restless Secret Silent Silver Sleepy Sly Steady Stray Swift Tired Wandering White Wild "
    "Wise"
).split()
JOBS = (
    "a baker; a barber; a brewer; a butcher; a carpenter; a chemist; a clerk; a cook; a "
    "dancer; a dentist; a doctor; a driver; a farmer; a gardener; a guard; a hunter; a judge; "
    "a lawyer; a librarian; a mason; a miller; a miner; a nurse; a painter; a pilot; a "
    "plumber; a poet; a porter; a potter; a printer; a sailor; a shepherd; a singer; a smith; "
    "a surgeon; a tailor; a teacher; a trader; a waiter; a weaver"
).split("; ")
INSTRUMENTS = (
    "the accordion; the banjo; the bassoon; the cello; the clarinet; the drums; the fiddle; "
    "the flute; the guitar; the harp; the horn; the lute; the mandolin; the oboe; the organ; "
    "the piano; the trombone; the trumpet; the tuba; the viola; the violin; the zither"
).split("; ")
BEASTS = (
    "bees; cattle; chickens; cows; dogs; donkeys; doves; ducks; falcons; geese; goats; hens; "
    "horses; lambs; mules; oxen; peacocks; pigs; ponies; rabbits; sheep; swans; trout; "
    "turkeys"
).split("; ")
LANGUAGES = (
    "Arabic Basque Breton Chinese Czech Danish Dutch English Finnish French German Greek "
    "Hebrew Hindi Irish Italian Japanese Korean Latin Norwegian Persian Polish Russian "
    "Spanish Swedish Tamil Turkish Welsh"
).split()
SCIENCES = (
    "algebra anatomy architecture astronomy botany chemistry dance economics engineering "
    "geography geology geometry grammar history law logic medicine music painting philosophy "
    "physics poetry sculpture theology zoology"
).split()
TASTES = (
    "baked boiled cold cooked creamy dried fresh fried green grilled hot pickled raw red "
    "roasted salted smoked sour spiced stewed sweet toasted warm white"
).split()
DISHES = (
    "apples bacon beans beef bread cabbage carrots cheese cherries chicken corn eggs figs "
    "fish ham lamb lentils mushrooms mutton noodles nuts olives onions peas pears peppers "
    "plums pork potatoes pudding rice salad sausage soup spinach tomatoes trout turnips"
).split()
NUMBERS = ("none", "one", "two", "three", "four", "five", "six")
FILES = (
    "archive diary guide history journal ledger letters log manual memo minutes notes papers "
    "protocol record register report review story summary survey tales"
).split()
ENDINGS = (".md", ".txt", ".pdf", ".html")
FILLERS = (
    "It rained for most of the week.",
    "The market opens at nine in the morning.",
    "Nobody remembers who built the old wall.",
    "The road along the river was closed in spring.",
    "A new roof was put on the school last year.",
    "The harvest was better than expected.",
    "Visitors are asked to leave their bags at the door.",
    "The bridge was painted again in the autumn.",
    "There was music in the square until late.",
    "The letter had no date and no name.",
    "Most of the windows face the sea.",
    "The train was late again on Monday.",
    "Bread is cheaper on the other side of the street.",
    "The garden behind the house is open to everyone.",
    "The meeting ended without a decision.",
    "Snow fell early that year.",
)

OPENERS = ("Note: ", "Entry: ", "Also: ", "Remark: ", "Then: ")
"""What a passage may begin with, so that its first name has a blank before it."""
