// What can be said of a card, and how it reads. It knows no keys and no page; the words are those the server takes.
const KINDS = ["pair", "single", "ranking"];
const WORDS = {
  pair: ["a", "b", "tie", "both_bad", "edited", "skip", "flag"],
  single: ["good", "bad", "edited", "skip", "flag"],
  ranking: ["ranked", "edited", "skip", "flag"],
};
const STRONG_WORDS = ["a", "b", "tie", "both_bad"];
const SET_ASIDE = ["skip", "flag"];
const NOUNS = { pair: "pair", single: "single response", ranking: "ranking" };
const SENTENCES = {
  a: "A is better", b: "B is better", tie: "Tie", both_bad: "Both bad", good: "Good", bad: "Bad",
  edited: "Better answer written", skip: "Skipped", flag: "Flagged",
};

const nounOf = (kind) => NOUNS[kind];
const amount = (count, kind) => `${count} ${nounOf(kind)}${count === 1 ? "" : "s"}`;
const ordinal = (place) => `${place}${["st", "nd", "rd"][place - 1] ?? "th"}`;
// How a card is called on the screen: by letter in a pair, by number in a ranking.
const nameOfCard = (kind, index) => (kind === "ranking" ? String(index + 1) : kind === "pair" ? "AB"[index] : "Response");

// Response id → place, 1 is best; equals share a place. tiers: [[id], [id, id]], best first.
function placesOf(tiers) {
  const places = new Map();
  let place = 1;
  for (const tier of tiers) {
    for (const id of tier) places.set(id, place);
    place += tier.length;
  }
  return places;
}

// What was said of a card, as one line.
function saidText(card, said) {
  const number = (id) => card.responses.findIndex((response) => response.id === id) + 1;
  const verdict = said.word === "ranked"
    ? said.ranking.map((tier) => tier.map(number).join(" = ")).join(" > ")
    : SENTENCES[said.word];
  return said.strength ? `${verdict}, ${said.strength}` : verdict;
}
