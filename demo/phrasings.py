"""How people word their questions: the templates of the corpus.

Owns the training phrasings of each kind of topic and the words that give a
kind away. It does not know the held-out phrasings; those are in
`demo.held_out`, and no template here may produce one.
"""

# {s} subject with article, {bare} without, {many} plural.
PHRASINGS: dict[str, tuple[str, ...]] = {
    "capital": (
        "what is the capital of {s}?", "what's the capital of {s}?", "what is the capital city of {s}?",
        "which city is the capital of {s}?", "name the capital of {s}.", "tell me the capital of {s}.",
        "capital of {s}?", "the capital of {s}, please.", "do you know the capital of {s}?",
        "can you tell me the capital of {s}?", "what city is {s}'s capital?", "what is {s}'s capital?",
        "I need the capital of {s}.", "where is the government of {s}?", "{s}: what is its capital?",
        "I forgot the capital of {s}.", "is there a capital of {s}?", "what do you call the capital of {s}?",
        "give me the name of the capital of {s}.", "the main city of {s} is called what?",
    ),
    "food": (
        "what does {s} eat?", "what do {many} eat?", "what food do {many} like?", "what is the food of {s}?",
        "what do {many} feed on?", "tell me what {many} eat.", "do you know what {s} eats?",
        "what should I feed {s}?", "which food is good for {s}?", "what do {many} live on?",
        "what is {s} fed?", "what does {s} like to eat?", "food for {many}?", "what can {s} eat?",
        "I want to know what {many} eat.", "the diet of {s}, please.", "what do {many} usually eat?",
    ),
    "young": (
        "what is a baby {bare} called?", "what do you call a baby {bare}?", "what is the name for a baby {bare}?",
        "a baby {bare} is called what?", "what is a young {bare} called?", "what do you call a young {bare}?",
        "what are the babies of {many} called?", "tell me the word for a baby {bare}.",
        "what is the young of {s} called?", "how do you call the young of {many}?",
        "is there a word for a young {bare}?", "do you know the word for a baby {bare}?",
        "what are young {many} called?", "name for a baby {bare}?", "what are baby {many} called?",
    ),
    "colour": (
        "what colour is {s}?", "what color is {s}?", "which colour does {s} have?", "what is the colour of {s}?",
        "tell me the colour of {s}.", "do you know what colour {s} is?", "colour of {s}?", "what's the color of {s}?",
        "{s} has which colour?", "I forgot the colour of {s}.", "which color is {s}?", "the colour of {s}, please.",
        "can you name the colour of {s}?", "I want to paint {s}, what colour do I need?",
    ),
    "opposite": (
        "what is the opposite of {s}?", "what's the opposite of {s}?", "opposite of {s}?", "tell me the opposite of {s}.",
        "name the opposite of {s}.", "which word is the opposite of {s}?", "the opposite of {s}, please.",
        "do you know the opposite of {s}?", "what is the opposite of the word {s}?", "{s}: what is the opposite?",
        "I need the opposite of {s}.", "what word means the opposite of {s}?", "give me the opposite of {s}.",
        "what is opposite to {s}?",
    ),
    "count": (
        "how many {things} are there {where}?", "how many {things} {where}?", "what is the number of {things} {where}?",
        "tell me how many {things} there are {where}.", "do you know how many {things} there are {where}?",
        "number of {things} {where}?", "{things} {where}: how many?", "how many {things} do you find {where}?",
        "I forgot how many {things} there are {where}.", "can you count the {things} {where}?",
        "how many {things} can there be {where}?", "are there many {things} {where}?",
    ),
    "definition": (
        "what is {s}?", "what's {s}?", "what does the word {bare} mean?", "what does {bare} mean?", "define {bare}.",
        "tell me what {s} is.", "can you explain what {s} is?", "explain {s}.", "what do you call {s}?",
        "do you know what {s} is?", "what is meant by {bare}?", "the meaning of {bare}, please.",
        "I do not know what {s} is.", "please define the word {bare}.", "what exactly is {s}?",
        "describe {s}.", "how would you describe {s}?", "{s} is what?", "I heard about {s}, what is it?",
    ),
    "how": (
        "how do I {what}?", "how can I {what}?", "how to {what}?", "how should I {what}?", "how do you {what}?",
        "tell me how to {what}.", "show me how to {what}.", "can you explain how to {what}?", "teach me to {what}.",
        "what is the best way to {what}?", "I want to {what}.", "I need to {what}.", "I want to {what}, what do I do?",
        "what are the steps for {doing}?", "I need help with {doing}.", "any advice on {doing}?", "steps for {doing}, please.",
        "is {doing} hard?", "{doing}, how does it work?", "how does one {what}?", "I have never tried {doing}.",
        "instructions for {doing}?", "explain {doing} to me.",
    ),
    "idea": (
        "give me an idea for {s}.", "any ideas for {s}?", "I need an idea for {s}.", "what do you suggest for {s}?",
        "can you suggest something for {s}?", "do you have ideas for {s}?", "what would be good for {s}?",
        "suggestions for {s}?", "help me with {s}.", "I am thinking about {s}.", "I cannot think of anything for {s}.",
        "what about {s}?", "I want some ideas for {s}.", "please recommend something for {s}.", "ideas for {s}, please.",
        "which ideas do you have for {s}?", "I have no idea for {s}.",
    ),
}

# A question of the kind holds the subject and all words of one of these groups.
CUES: dict[str, tuple[tuple[str, ...], ...]] = {
    "capital": ((),),
    "food": (("eat",), ("eats",), ("food",), ("feed",), ("diet",), ("live", "on"), ("fed",), ("eating",), ("meal",)),
    "young": (("baby",), ("young",), ("babies",), ("little",), ("newborn",)),
    "colour": (("colour",), ("color",)),
    "opposite": (("opposite",), ("contrary",), ("antonym",), ("reverse",)),
    "count": ((),),
    "definition": ((),),
}

# Put before a question; the question then keeps or loses its capital letter.
QUESTION_OPENERS: tuple[str, ...] = (
    "Hi,", "Hello,", "Hey,", "Please,", "Quick question:", "Excuse me,", "So,", "OK,", "One more thing:", "I wonder,", "Tell me,",
)
# Put before or after a question; none of their words is a cue.
REMARKS: tuple[str, ...] = (
    "My sister asked me.", "I was thinking about it all day.", "It came up in class.", "I should know this.",
    "My friends could not agree.", "We have been talking about it.", "I could not find it anywhere.", "It is for my homework.",
    "I am writing an article.", "My grandmother used to know.", "I am asking for my neighbour.", "Be honest.",
    "This may sound silly.", "I never know.", "I forgot.", "Just so I am sure.", "I have always wondered.",
    "It is my first time.", "I keep getting it wrong.", "We are in a hurry.", "I would be so glad to know.",
    "It has been a strange morning.", "Now I am curious.", "People keep asking me.", "I want to do it right.",
)
FOLLOW_UPS: tuple[str, ...] = ("And {s}?", "What about {s}?", "And of {s}?", "And for {s}?", "How about {s}?", "Now {s}.")
# Put after a feeling.
PLEAS: tuple[str, ...] = ("", "", " What should I do?", " Any advice?", " Can you help me?")
REPEATS: tuple[str, ...] = (
    "Could you repeat that?", "Say that again, please.", "Sorry, what was that?", "Once more, please.", "I did not get that.", "Can you say it again?",
)
SYSTEMS: tuple[str, ...] = (
    "You are a helpful assistant.", "You answer everyday questions.", "You are Pip, a small assistant.",
    "Answer the question of the user.", "You are an assistant on a website.", "You help people at home.",
)

UNKNOWN_ANSWERS: tuple[str, ...] = ("I do not know that, I am a very small model.", "I have not learned that yet.")
# {s} is one of the subjects below or a made-up word.
UNKNOWN_QUESTIONS: tuple[str, ...] = (
    "what is the capital of {s}?", "who is {s}?", "what is {s}?", "what does {s} mean?", "who invented {s}?",
    "how do I repair {s}?", "how do I build {s}?", "write a poem about {s}.", "what is the price of {s}?",
    "when was {s} born?", "tell me about the history of {s}.", "who won the cup in {s}?", "what is the weather in {s}?",
    "how many people live in {s}?", "translate {s} into Latin.", "what is the opposite of {s}?", "what colour is {s}?",
    "what does {s} eat?", "write code for {s}.", "what is {n} plus {m}?", "what is {n} times {m}?", "how much is {n} minus {m}?",
    "where can I buy {s}?", "what do you think of {s}?", "why is {s} so famous?", "how old is {s}?", "sing a song about {s}.",
    "what is the best {s}?", "how does {s} work?", "give me an idea for {s}.", "how many {s} are there in the world?",
)
UNKNOWN_SUBJECTS: tuple[str, ...] = (
    "Madagascar", "Bolivia", "Uganda", "Mongolia", "Fiji", "Jamaica", "Latvia", "Somalia", "Texas", "California",
    "Shakespeare", "Einstein", "Napoleon", "Mozart", "Picasso", "the president", "the king", "a shark", "a dolphin", "a penguin",
    "a car engine", "a rocket", "a robot", "the stock market", "a database", "Python", "the internet", "quantum physics", "gravity",
    "a telephone", "a television", "a washing machine", "the law", "taxes", "insurance", "a mortgage", "chess", "tennis", "golf",
    "opera", "jazz", "a wedding", "a lawyer", "a dentist", "medicine", "a virus", "a dinosaur", "the pyramids", "the Moon landing",
    "democracy", "philosophy", "love", "time", "the universe", "a black hole", "gold", "silver", "diamonds", "oil", "a train", "an airport",
)
