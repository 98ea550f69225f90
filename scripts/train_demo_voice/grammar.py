"""The sentences' building blocks: ``{name}`` in a pattern is replaced by one of the patterns under that name."""

from collections.abc import Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


GRAMMAR: Mapping[str, tuple[str, ...]] = {
    "adj": _words(
        "old new small large bright dark quiet loud warm cold heavy light empty full narrow wide tall short "
        "young gentle rough smooth sharp blunt clean dirty soft hard sweet bitter sour fresh dry wet deep "
        "shallow strange familiar common rare simple difficult clever foolish brave careful careless honest "
        "modern ancient broken golden silver wooden round square curved hidden open busy lazy noisy silent "
        "friendly proud humble patient famous useful useless cheap expensive local distant foreign cheerful "
        "gloomy purple yellow green blue red orange white black grey brown pink thick thin frozen sunny "
        "cloudy windy dusty muddy fragile solid rapid slow early late final first second third temporary "
        "permanent public private serious funny awkward graceful enormous tiny huge remarkable ordinary "
        "peculiar reliable nervous calm hungry thirsty sleepy curious polite"
    ),
    "person": _words(
        "teacher doctor farmer engineer sailor baker painter writer student lawyer nurse driver pilot cook "
        "gardener singer dancer judge soldier merchant carpenter plumber librarian waiter manager neighbor "
        "stranger visitor traveler musician actor reporter scientist chemist tailor butcher mechanic captain "
        "king queen prince princess grandmother grandfather uncle aunt cousin brother sister mother father "
        "daughter son friend child boy girl woman man guest customer editor architect clerk officer guard "
        "hunter fisherman shepherd miner professor principal coach player swimmer runner dentist surgeon "
        "patient banker accountant developer"
    ),
    "animal": _words(
        "dog cat horse cow sheep goat pig chicken duck goose rabbit fox wolf bear deer lion tiger elephant "
        "monkey mouse squirrel owl eagle crow sparrow swan whale dolphin shark turtle frog snake lizard "
        "beetle butterfly spider bee ant donkey camel giraffe zebra penguin seal otter beaver hedgehog parrot "
        "pigeon robin"
    ),
    "thing": _words(
        "table chair window door lamp candle mirror carpet curtain pillow blanket bottle basket bucket kettle "
        "spoon knife plate bowl cup glass letter envelope newspaper magazine book notebook pencil brush "
        "hammer ladder rope engine bicycle wagon truck boat ship train bus camera telephone clock watch ring "
        "necklace jacket shirt hat scarf glove boot shoe umbrella suitcase wallet key lock coin stamp map "
        "ticket painting statue piano guitar violin drum trumpet flute bread cheese butter apple orange lemon "
        "cherry potato onion carrot cabbage pumpkin soup salad sandwich cake cookie honey sugar pepper salt "
        "vinegar tea coffee juice milk flower tree leaf branch root seed stone shell feather bell whistle box "
        "drawer shelf fence gate wheel pump valve cable battery switch"
    ),
    "idea": _words(
        "question answer story reason problem secret promise mistake lesson decision opinion theory method "
        "result journey adventure memory dream habit rule law agreement argument discussion meeting plan "
        "project report experiment discovery invention success failure change choice chance danger risk "
        "advantage purpose meaning message language culture history science music poetry weather season "
        "climate health knowledge experience education business economy industry election government "
        "tradition ceremony festival holiday celebration"
    ),
    "place": _lines(
        """the kitchen
        the garden
        the library
        the harbor
        the station
        the market
        the village
        the city center
        the old castle
        the school
        the hospital
        the office
        the factory
        the theater
        the museum
        the airport
        the beach
        the forest
        the mountain
        the valley
        the river
        the lake
        the island
        the desert
        the bridge
        the road
        the corner
        the basement
        the attic
        the hotel
        the restaurant
        the church
        the courtroom
        the laboratory
        the warehouse
        the workshop
        the playground
        the stadium
        the farm
        the field
        the cave
        the tower
        the square
        the park
        {city}"""
    ),
    "city": _words(
        "London Paris Boston Chicago Denver Dublin Berlin Madrid Rome Vienna Oslo Lisbon Tokyo Toronto Sydney "
        "Cairo Seattle Dallas Atlanta Portland Geneva Athens Helsinki Prague Warsaw Nairobi Melbourne "
        "Montreal Houston"
    ),
    "country": _words(
        "France Germany Spain Italy Canada Mexico Brazil Japan India Egypt Norway Sweden Finland Ireland "
        "Scotland England America Australia Greece Turkey Kenya Portugal Austria Poland Iceland Denmark"
    ),
    "name": _words(
        "Anna Tom Emma Peter Clara Henry Alice George Laura Robert Julia Martin Susan David Helen Oliver "
        "Sophie Frank Nora Walter Rose Edward Lucy Simon Martha Victor Grace Philip Ruth Arthur Daniel Maria "
        "Oscar Eva Max Jane Michael Sarah James Linda William Karen Thomas Nancy Charles Betty Kevin Diane "
        "Jason Emily Brian Amy"
    ),
    "surname": _words(
        "Miller Baker Cooper Fisher Turner Walker Parker Hill Wood Green Brown White Gray Young King Stone "
        "Marsh Carter Mason Archer Fletcher Harper Porter Shepherd Weaver Potter Sawyer Barker Bishop Brooks "
        "Fields"
    ),
    "title": _words("Mister Missus Doctor Professor Captain Miss"),
    "who": (
        *("the {person}", "the {person}", "the {adj} {person}", "a {adj} {person}", "my {person}", "her {person}"),
        *("our {person}", "{name}", "{name}", "{title} {surname}", "every {person}", "one of the {person}s"),
        *(
            "the {person} from {city}",
            "the {person} and the {person}",
            "{name} and {name}",
            "their {adj} {person}",
        ),
        *("somebody", "everyone", "nobody", "the {person}'s {person}", "{name}'s {person}"),
    ),
    "subject": ("he", "she", "he", "she", "we", "they", "I", "you", "{who}", "{who}", "{who}", "{who}"),
    "object": (
        *("the {thing}", "the {adj} {thing}", "a {adj} {thing}", "the {person}", "the {animal}", "a {animal}"),
        *("the {adj} {animal}", "the {idea}", "his {thing}", "her {thing}", "my {adj} {thing}", "our {thing}s"),
        *("the {person}'s {thing}", "{number} {thing}s", "some {adj} {thing}s", "the {thing} and the {thing}"),
        *("another {thing}", "each {thing}", "that {adj} {idea}", "an {adj} {idea}", "the {word} {thing}"),
    ),
    "did": _words(
        "found lost bought sold carried dropped opened closed painted cleaned repaired broke followed watched "
        "remembered forgot mentioned described examined measured counted ordered borrowed returned collected "
        "admired ignored wanted needed liked loved feared hated visited noticed heard touched pulled pushed "
        "lifted moved brought took kept sent received designed built destroyed discovered explained imagined "
        "expected chose threw caught wrapped washed hid showed offered prepared finished started delivered "
        "replaced inspected covered"
    ),
    "do": _words(
        "find lose buy sell carry drop open close paint clean repair break follow watch remember forget "
        "mention describe examine measure count order borrow return collect admire ignore want need like love "
        "visit notice hear touch pull push lift move bring take keep send receive design build destroy "
        "discover explain imagine expect choose throw catch wrap wash hide show offer prepare finish start "
        "deliver replace inspect cover"
    ),
    "went": _words(
        "walked ran hurried drove sailed flew climbed wandered traveled marched crawled jumped waited slept "
        "sat stood lived worked sang danced laughed cried smiled whispered shouted argued rested vanished "
        "appeared arrived fell"
    ),
    "going": _words(
        "walking running driving sailing climbing wandering traveling waiting sleeping sitting standing "
        "living working singing dancing laughing smiling whispering shouting arguing resting reading writing "
        "thinking swimming cooking painting playing fishing shopping studying talking listening cleaning "
        "building hiding"
    ),
    "adverb": _words(
        "quickly slowly quietly loudly carefully suddenly finally happily sadly politely angrily gently "
        "eagerly patiently proudly bravely nervously secretly usually rarely never always often sometimes "
        "probably certainly nearly almost hardly barely completely partly mostly immediately eventually "
        "recently again together alone"
    ),
    "where": (
        *("in {place}", "near {place}", "behind {place}", "across {place}", "at {place}", "outside {place}"),
        *("beside the {thing}", "under the {thing}", "on the {adj} {thing}", "from {place}", "through {place}"),
        *(
            "between the {thing} and the {thing}",
            "around {place}",
            "toward {place}",
            "in {country}",
            "above {place}",
        ),
    ),
    "when": (
        *(
            "yesterday",
            "tomorrow",
            "today",
            "last night",
            "this morning",
            "this afternoon",
            "on {day}",
            "in {month}",
        ),
        *(
            "at noon",
            "at midnight",
            "at {time}",
            "in {year}",
            "{number} years ago",
            "in the {season}",
            "last {day}",
        ),
        *(
            "every {day}",
            "on the {ordinal} of {month}",
            "on {month} {ordinal}",
            "for {number} days",
            "last {season}",
        ),
        *(
            "after dinner",
            "before breakfast",
            "during the {idea}",
            "before the war",
            "for a long time",
            "next year",
        ),
        *("in the {ordinal} century", "around {time}", "until {day}", "since {month}", "a few minutes later"),
    ),
    "day": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": _words("January February March April May June July August September October November December"),
    "season": _words("spring summer autumn winter fall"),
    "clause": (
        *("{subject} {did} {object}", "{subject} {did} {object} {where}", "{subject} {went} {where}"),
        *("{subject} {adverb} {did} {object}", "{who} {went} {adverb} {where}", "{subject} {did} {object} {when}"),
        *("{who} is {adj} and {adj}", "the {thing} was {adj}", "the {thing} {where} was very {adj}"),
        *("{subject} could not {do} {object}", "{subject} had to {do} {object}", "{who} was {going} {where}"),
        *("there was a {adj} {thing} {where}", "there were {number} {animal}s {where}", "it was {adj} {where}"),
        *("{subject} will {do} {object} {when}", "{who} wants to {do} {object}", "the {animal} {went} {where}"),
        *("{subject} should {do} {object}", "the {idea} was more {adj} than the {idea}", "we {did} it {when}"),
        *("{who} said that the {idea} was {adj}", "{subject} might {do} {object} {when}", "I can {do} {object}"),
        *("the {adj} {animal} {did} {object}", "{object} was {adj} to {who}", "{who} never {did} {object}"),
        *(
            "the {idea} of {idea} is {adj}",
            "{who} has {number} {thing}s and {number} {animal}s",
            "they {adverb} {did} it",
        ),
    ),
    "join": (
        *(", and", ", but", " because", " while", " when", ", so", " before", " after", ", although", " until"),
        *(";", ", yet", " if", " since", " as", " whenever", ", or", " unless", " where", ": "),
    ),
    "opener": (
        *("However", "In the end", "At first", "Meanwhile", "Of course", "After a while", "To my surprise"),
        *("Fortunately", "Unfortunately", "In fact", "For example", "On {day}", "In {month}", "Once again"),
        *(
            "According to {who}",
            "Without a word",
            "Later that day",
            "Nevertheless",
            "As a result",
            "Early one morning",
        ),
        *(
            "By {time}",
            "In {year}",
            "During the {season}",
            "With a smile",
            "Most of the time",
            "Every now and then",
        ),
    ),
    "question": (
        *("did {subject} {do} {object}", "can you {do} {object}", "why did {who} {do} {object}", "is it {adj}"),
        *("where did {subject} {do} {object}", "when will {who} {do} {object}", "how many {thing}s do we need"),
        *(
            "who {did} {object}",
            "what happened to {object}",
            "have you ever seen a {adj} {animal}",
            "is {name} at home",
        ),
        *("would you like {number} {thing}s", "do you know where {who} {went}", "how old is {object}"),
        *("could you {do} {object} {when}", "which {thing} is more {adj}", "what is the name of the {person}"),
        *(
            "isn't the {thing} too {adj}",
            "don't you {do} {object}",
            "won't {who} {do} {object}",
            "whose {thing} is it",
        ),
        *(
            "how far is it to {place}",
            "what time is it in {city}",
            "what are you {going} for",
            "shall we {do} it {when}",
        ),
    ),
    "exclamation": (
        *(
            "what a {adj} {thing}",
            "how {adj} the {thing} is",
            "look at {object}",
            "{do} {object}",
            "come here, {name}",
        ),
        *("please {do} {object}", "don't {do} {object}", "never {do} {object} again", "let's {do} {object}"),
        *("watch out for {object}", "I don't believe it", "that's {adj}", "wait for {who}", "be {adj}"),
    ),
    "daily": _lines(
        """good morning, {name}
        good evening, {title} {surname}
        hello, {name}, how are you {when}
        thank you for the {adj} {thing}
        thanks a lot, {name}
        you're welcome
        I'm sorry about the {thing}
        see you {when}
        have a nice day, {name}
        happy birthday, {name}
        my name is {name}, and I'm from {city}
        my name is {name} {surname}
        nice to meet you, {title} {surname}
        welcome to {place}
        goodbye, {name}, and good luck
        yes, I'd like the {thing}, please
        no, thank you, I don't need {object}
        I'll have the {thing} with {thing}, please
        we're almost there, aren't we
        it's {time}, and they're still {going}
        you've got {number} messages from {name}
        she's {number} years old {when}
        I can't {do} {object}, and I won't try
        they wouldn't {do} {object} {when}
        he {adverb} {did} {object}, and he didn't want to
        what's the weather like in {city}
        it will be {adj} and {adj} {when}
        the {thing} costs {money}
        we paid {money} for {object}
        excuse me, is this {thing} yours
        take care, {name}
        I think it's {adj}, don't you"""
    ),
    "fact": _lines(
        """the {ordinal} {person} of {country} was {adj}
        {city} is about {number} miles from {city}
        the {thing} weighs {number} kilograms
        the {thing} is {number} meters long and {number} meters wide
        the temperature was {number} degrees {when}
        nearly {number} percent of the {person}s {did} {object}
        the population of {city} is about {number}
        the flight to {city} leaves at {time}
        the meeting is on {day}, {month} {ordinal}
        {name} was born on {month} {ordinal}, {year}
        the answer is {number} point {digit} {digit}
        the phone number is {digit} {digit} {digit}, {digit} {digit} {digit} {digit}
        turn to page {number} and read chapter {number}
        room {number} is on the {ordinal} floor
        {number} plus {number} is {number}
        {number} times {number} is not {number}
        the score was {number} to {number}
        {month} {ordinal}, {year}
        the {ordinal} of {month}, {year}
        {day}, {time}
        flight {digit} {digit} {digit} is delayed by {number} minutes
        about {fraction} of the {thing}s were {adj}
        minus {number} degrees
        the train from {city} arrives at {time} on platform {number}
        it happened between {year} and {year}
        the war ended in {year}
        from {number} to {number}"""
    ),
    "tech": _words(
        "queue worker token server client network database computer keyboard monitor printer program function "
        "variable process thread buffer cache memory disk file folder password account browser website "
        "message request response error warning log test build release version update model batch layer "
        "sampler decoder encoder kernel tensor matrix vector gradient speech voice audio microphone speaker "
        "signal sample frequency channel stream packet socket router cluster container image script module "
        "package library compiler debugger dashboard metric counter timeout scheduler pipeline benchmark "
        "checkpoint codec vocoder tokenizer prompt state"
    ),
    "brand": (
        *("Redis", "Linux", "Python", "Debian", "Docker", "Unicode", "Rust", "Java", "the internet", "the cloud"),
        *("the {spelled}", "the {spelled} {tech}", "an audio {tech}", "the {tech} {tech}", "the {adj} {tech}"),
    ),
    "techdo": _words(
        "starts stops loads saves reads writes sends receives deletes copies checks updates restarts decodes "
        "encodes schedules samples trains compiles installs downloads uploads connects disconnects handles "
        "returns prints measures monitors ignores retries cancels accepts rejects replaces stores streams "
        "splits joins claims drains"
    ),
    "technical": _lines(
        """the {tech} {techdo} the {tech}
        the {tech} {techdo} every {tech} {when}
        {brand} {techdo} the {tech} in {number} seconds
        each {tech} {techdo} one {tech} at a time
        please restart the {tech} and try again
        the {tech} is full, so the {tech} has to wait
        there are {number} {tech}s in the {tech}
        {who} deleted the {tech} by accident
        the {tech} failed with {number} errors
        if the {tech} {techdo} the {tech}, then {brand} {techdo} it
        your {tech} is ready
        the {tech} uses {number} percent of the {tech}
        we use {brand} and {brand} for every {tech}
        a {adj} {tech} is better than a {adj} {tech}
        version {number} point {digit} of the {tech} {techdo} {brand}
        press the {letter} key to {do} the {tech}
        open the {spelled} {tech} and check the {tech} log
        the {tech} ran for {number} hours without a {tech}
        speech is made of {tech}s, and the {tech} turns them into sound
        type your {tech} twice
        {who} wrote a {adj} {tech} in {brand}
        the {spelled} {techdo} the {tech}
        why does the {tech} need so much {tech}
        the new {tech} is {number} times faster than the old {tech}"""
    ),
    "science": _lines(
        """the {substance} was heated to {number} degrees
        {substance} and {substance} were found {where}
        the planet turns around its star in {number} days
        every cell contains a small amount of {substance}
        the {organ} of the {animal} is {adj}
        the patient's {organ} was {adj} {when}
        a triangle has three sides and a circle has none
        the theory explains why {substance} is {adj}
        light and {substance} behave in a {adj} way
        the {animal} belongs to a {adj} family of {animal}s
        most {animal}s sleep during the {season}
        the earth moves around the sun
        the moon was {adj} and the stars were {adj}
        sound travels through {substance} faster than through {substance}
        the {adj} {organ} carries blood to the {organ}
        scientists in {country} measured the {organ} of {number} {animal}s
        the equation has {number} solutions
        the rocks {where} contain {substance}"""
    ),
    "substance": _words(
        "water oxygen hydrogen carbon iron copper gold silver sulfur sodium calcium sugar alcohol salt acid "
        "oil steel glass rubber plastic paper wood cotton wool clay sand concrete nitrogen helium mercury "
        "uranium protein air"
    ),
    "organ": _words(
        "heart brain liver stomach skin tongue nose eye ear foot hand knee shoulder throat jaw lung bone"
    ),
    "food": _lines(
        """add {number} cups of {thing} and stir until it is {adj}
        bake the {thing} for {number} minutes
        mix the {thing} with the {thing}, then add some {thing}
        cut the {thing} into {adj} pieces
        the {thing} soup tastes {adj}
        serve it with {adj} {thing} and {thing}
        {who} cooked {thing} and {thing} for {number} guests
        boil the water, add the {thing}, and wait {number} minutes
        the restaurant {where} serves {adj} {thing}s
        would you pass me the {thing}, {name}
        {name} doesn't eat {thing}s
        this {thing} smells {adj}"""
    ),
    "news": _lines(
        """the government of {country} announced a {adj} {idea} {when}
        prices rose by {number} percent {when}
        the {person}s of {city} voted for a new {idea}
        the company will open {number} shops in {country}
        {number} people were rescued {where}
        the president of the company met the {person}s {when}
        {country} won the game against {country} by {number} points
        heavy rain closed the road to {place}
        the court decided that the {idea} was {adj}
        the festival {where} begins {when}
        experts believe that the {idea} will change the {idea}
        the team from {city} lost {number} games in a row
        a {adj} fire damaged {place} {when}
        workers at {place} asked for higher pay
        the new law protects {animal}s and {animal}s"""
    ),
    "story": _lines(
        """once upon a time there lived a {adj} {person} {where}
        {name} looked at {who} and smiled
        I don't know, said {name}
        where is the {thing}, asked the {adj} {person}
        it was {time} when {name} {adverb} {did} {object}
        the {person} had {number} sons and a {adj} daughter
        the {animal} and the {animal} were {adj} friends
        nobody ever {did} such a {adj} {thing}
        she thought about the {idea} and {went} home
        all night long, {who} {did} {object}
        he took a deep breath and {did} {object}
        the wind blew {where}, and {who} {went} {adverb}
        and so they lived {where} for {number} years
        in the {adj} light of the moon, the {thing} looked like a {animal}
        her eyes were as {adj} as {object}
        the door opened, and in came {who}
        at the age of {number}, {name} {went} {where}
        when {name} was a child, {subject} {did} {object} every {season}"""
    ),
    "spelling": (
        *("{letter} {letter} {letter}", "{spelled}", "the letters {letter}, {letter} and {letter}"),
        *("{word} begins with the letter {letter}", "the {spelled} is {adj}", "the {spelled} and the {spelled}"),
        *(
            "send the {spelled} to {name}",
            "it's spelled {letter} {letter} {letter} {letter}",
            "{name}'s {spelled}",
        ),
    ),
    "wordy": (
        *(
            "the {word} {word} {did} the {word}",
            "say the word {word} again",
            "{word} and {word}",
            "{word}, {word}",
        ),
        *("the {adj} {word} of {word}", "{who} wrote {word} on the {thing}", "is it {word} or {word}", "{word}"),
        *(
            "{word}, {word}, and {word}",
            "a {word} is not a {word}",
            "not {word}, but {word}",
            "no {word} without {word}",
        ),
        *("the {word} was {word} and the {word} was {word}", "too {word} for {who}", "what does {word} mean"),
    ),
    "fraction": (
        *(
            "half",
            "a third",
            "two thirds",
            "a quarter",
            "three quarters",
            "one fifth",
            "a tenth",
            "one and a half",
        ),
    ),
}
