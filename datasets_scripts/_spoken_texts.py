"""What the speakers of spoken say in English: sentences, orders for a home with their intent, requests with slots.

See `_templates` for how the lists are written and what the braces mean.
"""

from __future__ import annotations

import re

import numpy as np

from ._templates import filled, lists, pick

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

_LISTS = lists("""
name: anna ben clara david emma felix grace henry irene jacob karen liam maria noah olivia peter rosa simon tina
    victor wendy oscar julia martin nina paul laura george sarah thomas lucy daniel helen frank alice robert
relation: brother sister mother father uncle aunt cousin teacher neighbour doctor friend grandmother
who: {name} | {name} | my {relation} | your {relation} | the {job}
job: baker driver farmer gardener painter sailor singer soldier student writer plumber waiter nurse pilot
noun: lamp bottle window garden basket mirror blanket candle hammer kettle ladder letter magazine medicine needle
    parcel pencil picture pillow pocket radio ribbon sandwich saucer shovel suitcase sweater telephone ticket
    umbrella violin wallet whistle bicycle bucket camera carpet clock computer cushion dictionary drawer envelope
    fountain guitar helmet jacket keyboard lantern map notebook oven piano rope statue table trumpet vase wheel
nouns: apples birds books boats bridges chairs children clouds coins cows ducks eggs flowers forks horses kittens
    lemons monkeys oranges plates potatoes rabbits rivers shoes spoons stamps stones tomatoes towers trees
adjective: old new broken heavy little empty golden wooden silver dirty clean narrow wide strange beautiful
    expensive cheap bright dark yellow purple green orange quiet noisy round square smooth rough ancient modern
    famous simple useful precious fragile curious delicious familiar enormous
feeling: tired happy hungry thirsty nervous angry proud lonely careful patient generous worried surprised
did: found carried painted opened closed borrowed repaired dropped washed sold bought lost hid brought moved
    followed noticed forgot collected admired measured described returned delivered examined
do: find carry paint open close borrow repair drop wash sell buy hide bring move follow notice forget collect admire
    measure describe return deliver examine
went: walked waited slept talked laughed danced sang worked rested wandered arrived shouted listened played
place: kitchen station harbour library market museum office school village castle church factory forest hospital
    island mountain restaurant river theatre university valley bakery bathroom cellar corridor airport stadium
    laboratory cathedral supermarket
near: in near behind beside outside opposite inside
when: yesterday | today | this morning | last summer | every evening | on monday | on friday | before breakfast |
    after lunch | in the afternoon | late at night | for several hours | in the winter | once again | at half past
    seven | as usual
soon: tomorrow | next week | on saturday | before dinner | in a few minutes | later today | in the spring | at noon
count: two three four five six seven eight nine ten eleven twelve thirteen twenty thirty forty fifty
how: slowly quickly carefully suddenly quietly finally together often happily secretly
why: because the weather was {weather} | because nobody wanted it | although it was {adjective} | when the {job} was
    {feeling} | while {who} {went} {near} the {place}
weather: cold warm windy rainy sunny foggy terrible wonderful
""")
_SENTENCES = """
the {adjective} {noun} stood {near} the {place} {when}
{who} {did} the {noun} {when}
{who} {did} the {adjective} {noun} {why}
{who} {how} {did} {count} {nouns}
{who} {went} {near} the {place} {when}
{who} {went} {how} {why}
{who} will {do} the {noun} {soon}
could you {do} the {noun} {near} the {place} {soon}
please {do} the {adjective} {nouns} {soon}
there are {count} {nouns} {near} the {place}
the {noun} and the {noun} were {near} the {adjective} {place}
where did {who} {do} the {noun}
why is the {noun} so {adjective}
i think that {who} was {feeling} {when}
if you {do} the {noun} we can {do} the {nouns} {soon}
nobody {did} the {noun} that {who} {did} {when}
we need {count} {nouns} and {count} {adjective} {nouns}
the {place} is between the {place} and the {adjective} {place}
{who} never {did} such {adjective} {nouns} before
it was so {weather} that {who} {went} {near} the {place}
do not {do} the {noun} {near} the {place}
{who} told the {job} to {do} the {adjective} {noun}
tell me when {who} is {feeling}
the {job} and the {job} {did} the {nouns} {how}
""".strip().splitlines()

# Requests. A list in capitals is a slot.
_VALUES = lists("""
ARTIST: the rolling hills | clara winter | blue harbour | the silver foxes | johnny marble | maria sanchez | old
    radio
TRACK: morning rain | under the bridge of stars | my golden years | dance with the wind | seven letters | home
PLAYLIST: morning run | dinner jazz | study time | summer hits | deep sleep | kitchen party
SERVICE: radio garden | sound cloud nine | tune box | melody
CITY: berlin | new york | paris | san francisco | taipei | london | rio de janeiro | cape town | tokyo | madrid |
    oslo | prague
DATE: tomorrow | next friday | the first of may | this weekend | monday | the third of october | tonight | today
TIME: seven thirty | noon | half past nine | eight in the evening | six o'clock | a quarter to ten | midnight
DURATION: ten minutes | half an hour | two hours | ninety seconds | three days | a week
PARTY: two | four people | my family | six | three friends | ten guests
CUISINE: italian mexican thai french chinese indian greek
RESTAURANT: the golden spoon | chez martin | river house | little dragon | corner kitchen
WEATHER: rain | snow | windy | sunny | hot | foggy | a storm
CONTACT: {name} | {name} | {name} | doctor {name} | my {relation} | my {relation}
ITEM: milk | tomatoes | a loaf of bread | green tea | two lemons | batteries | cat food | olive oil
MOVIE: the last train | seven oceans | a night in june | the clock maker | winter garden
RATING: one two three four five
""")
_REQUESTS = """
play {TRACK} by {ARTIST}
play some {ARTIST} on {SERVICE}
start the playlist {PLAYLIST}
add {TRACK} to my {PLAYLIST} playlist
add this song by {ARTIST} to {PLAYLIST}
book a table for {PARTY} in {CITY} {DATE}
reserve a table at {RESTAURANT} for {PARTY} at {TIME}
find a {CUISINE} restaurant in {CITY}
i want {CUISINE} food with {CONTACT} at {TIME}
will it be {WEATHER} in {CITY} {DATE}
is there going to be {WEATHER} {DATE} at {TIME}
what is the forecast for {CITY} for {DATE}
set a timer for {DURATION}
wake me up at {TIME} {DATE}
remind me to call {CONTACT} {DATE}
remind me in {DURATION} to buy {ITEM}
put {ITEM} and {ITEM} on my list
call {CONTACT} at {TIME}
send a message to {CONTACT} that i will be late by {DURATION}
when does {MOVIE} start in {CITY}
buy tickets for {MOVIE} at {TIME}
give {MOVIE} {RATING} out of five stars
rate {TRACK} {RATING} points
how long is the flight from {CITY} to {CITY}
""".strip().splitlines()
SLOTS = tuple(name.lower() for name in _VALUES)
TAGS = ("O", *(f"{mark}-{name}" for name in SLOTS for mark in "BI"))

# Orders: action and object -> wordings, with what may be said for the object in place of X.
LOCATIONS = ("none", "kitchen", "bedroom", "bathroom", "office")
_NAMES = lists("""
lights: lights lighting
lamp: lamp | reading lamp
fan: fan ventilator
radio: radio music
volume: volume sound
heat: heating heat temperature
brightness: brightness | screen brightness
glasses: glasses | reading glasses
coat: coat | winter coat
newspaper: newspaper paper
tea: tea | cup of tea
english: english
german: german
french: french
mandarin: mandarin
""")
_WORDINGS = lists("""
activate: turn on the X | switch on the X | turn the X on | put on the X
deactivate: turn off the X | switch off the X | turn the X off | shut off the X
increase: turn up the X | increase the X | raise the X | turn the X up
decrease: turn down the X | decrease the X | lower the X | turn the X down
bring: bring me my X | fetch my X | get me the X | go and get the X
change language: change the language to X | switch to X | speak X | set my phone to X
""")
_OBJECTS = lists("""
activate: lights lamp fan radio
deactivate: lights lamp fan radio
increase: volume heat brightness
decrease: volume heat brightness
bring: glasses coat newspaper tea
change language: english german french mandarin
""")
# What asks for an action without naming it.
_HINTS = {
    ("activate", "lights"): ("it is too dark", "i can not see anything"),
    ("increase", "volume"): ("it is too quiet", "i can not hear it"),
    ("decrease", "volume"): ("it is too loud", "this hurts my ears"),
    ("increase", "heat"): ("it is too cold", "i am freezing"),
    ("decrease", "heat"): ("it is too hot", "i am sweating"),
}
# What stands in a room; the rest is nowhere in particular.
_PLACED = {"lights", "lamp", "fan", "radio", "heat", "volume"}
_BEGINNINGS = ("", "please ", "could you ", "now ", "hey ", "i want you to ")
_ENDINGS = ("", "", " please", " now", " right away", " for me")
ACTIONS = tuple(_OBJECTS)
OBJECTS = tuple(dict.fromkeys(name for names in _OBJECTS.values() for name in names))


def sentence(rng: np.random.Generator) -> str:
    """A sentence of 5 to 14 words."""
    return " ".join(word for word, _ in filled(rng, pick(rng, _SENTENCES), _LISTS))


def words(name: str = "") -> list[str]:
    """Every word of which sentences are made, or those of one list."""
    texts = _LISTS[name] if name else [*_SENTENCES, *(item for items in _LISTS.values() for item in items)]
    return sorted({word for text in texts for word in re.sub(r"{\w+}", " ", text).split()})


def others() -> list[str]:
    """Words that are no commands, for the class ``unknown``."""
    return [word for word in words() if word not in COMMANDS and len(word) > 2]


def order(rng: np.random.Generator) -> tuple[str, str, str, str]:
    """An order for a home, its action, object and location."""
    action = pick(rng, ACTIONS)
    thing = pick(rng, _OBJECTS[action])
    location = pick(rng, LOCATIONS) if thing in _PLACED else "none"
    where = "" if location == "none" else f" in the {location}"
    if (action, thing) in _HINTS and rng.random() < 0.4:
        return pick(rng, _HINTS[action, thing]) + where, action, thing, location
    wish = pick(rng, _WORDINGS[action]).replace("X", pick(rng, _NAMES[thing]))
    return pick(rng, _BEGINNINGS) + wish + where + pick(rng, _ENDINGS), action, thing, location


def request(rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """The words of a request and their tags."""
    pieces = list(filled(rng, pick(rng, _REQUESTS), _LISTS | _VALUES))
    before = ["", *(slot for _, slot in pieces)]
    tags = [
        f"{'I' if slot == last else 'B'}-{slot}" if slot else "O"
        for (_, slot), last in zip(pieces, before, strict=False)
    ]
    return [word for word, _ in pieces], tags
