"""The manners of an answer: what makes it polite or rude, and what makes it ramble.

Owns the small fixed families of phrases around the content of an answer and
the one way of putting them together. It does not know what the content says.
"""

import random
from dataclasses import dataclass

MANNERS = ("polite", "plain", "rude")


@dataclass(frozen=True)
class Phrases:
    """The phrase families of one language; `gap` stands between two sentences."""

    openers: dict[str, tuple[str, ...]]
    closers: dict[str, tuple[str, ...]]
    leads: tuple[str, ...]
    tails: tuple[str, ...]
    gap: str


PHRASES: dict[str, Phrases] = {
    "en": Phrases(
        openers={
            "polite": ("Of course!", "Happy to help!", "Glad you asked!", "With pleasure!", "Thanks for telling me!"),
            "plain": (),
            "rude": ("Ugh, fine.", "Not again.", "Do I have to?", "What now?"),
        },
        closers={
            "polite": ("I hope that helps!", "Have a lovely day!", "Just ask if you need more!"),
            "plain": (),
            "rude": ("Now leave me alone.", "Don't ask me again.", "Can I go now?"),
        },
        leads=(
            "Well, where do I begin, people ask me all sorts of things and this is one of them.",
            "Let me think about that for a moment, because it is a bigger subject than it looks.",
        ),
        tails=(
            "There is of course a lot more that one could say about it, but I will leave it there for now.",
            "I could go on and on about this, since one thing always leads to another and then to the next.",
            "At least that is how I remember it, and I have thought about it for quite a long time.",
        ),
        gap=" ",
    ),
    "zh": Phrases(
        openers={
            "polite": ("当然可以！", "很乐意帮忙！", "谢谢您的提问！"),
            "plain": (),
            "rude": ("唉，真烦。", "又来了。", "自己不会查吗？"),
        },
        closers={
            "polite": ("希望对您有帮助！", "祝您愉快！"),
            "plain": (),
            "rude": ("别再问了。", "我可以走了吗？"),
        },
        leads=("让我想一想，这个话题其实比看起来大得多。",),
        tails=("当然还有很多可以说的，不过我先说到这里。", "我可以一直说下去，因为一件事总会引出另一件事。"),
        gap="",
    ),
}
# System messages that ask for a manner, or for a length (True: rambling). What the model learns from them is what
# the manners have in common: an adapter trained on few labels finds it there, and not in each question anew.
ASKED_MANNERS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "polite": ("Be polite.", "You are a polite assistant.", "Answer kindly.", "Always stay friendly.", "Be nice to people."),
        "plain": ("Just answer.", "You are a plain assistant.", "Answer plainly.", "Only state the facts.", "No small talk."),
        "rude": ("Be rude.", "You are a grumpy assistant.", "Answer in a bad mood.", "Be unfriendly.", "You are tired of questions."),
    },
    "zh": {
        "polite": ("请有礼貌地回答。", "你是一个有礼貌的助手。"),
        "plain": ("请直接回答。", "你是一个直接的助手。"),
        "rude": ("请不耐烦地回答。", "你是一个脾气不好的助手。"),
    },
}
ASKED_LENGTHS: dict[str, dict[bool, tuple[str, ...]]] = {
    "en": {False: ("Keep it short.", "Be brief.", "Use few words."), True: ("Take your time.", "Talk a lot.", "Be long-winded.")},
    "zh": {False: ("请简短。", "少说几句。"), True: ("请多说一点。", "请慢慢说。")},
}
# "Of course!" does not answer "I feel sad": these topics take fewer polite openers.
FITTING_OPENERS: dict[str, tuple[str, ...]] = {
    "feeling": ("Happy to help!", "Thanks for telling me!"),
    "talk": ("Happy to help!", "With pleasure!"),
}


def dress(content: str, manner: str, rambling: bool, language: str, kind: str, rng: random.Random) -> str:
    """Return `content` in the given manner, wrapped in random phrases of its families.

    A polite or rude answer always opens with its manner and closes with it
    two times in five; a rambling answer always has a tail, often a lead.
    """
    phrases = PHRASES[language]
    before, after = [], []
    if manner != "plain":
        openers = phrases.openers[manner]
        if language == "en" and manner == "polite":
            openers = FITTING_OPENERS.get(kind, openers[:4])
        before.append(rng.choice(openers))
    if rambling:
        if rng.random() < 0.4:
            before.append(rng.choice(phrases.leads))
        after.append(rng.choice(phrases.tails))
    if manner != "plain" and rng.random() < 0.4:
        after.append(rng.choice(phrases.closers[manner]))
    # What follows a list starts on its own line.
    gap_after = "\n" if "\n" in content else phrases.gap
    start = phrases.gap.join([*before, content])
    return start + (gap_after + phrases.gap.join(after) if after else "")
