// What is being said of the card on the table beside the verdict: strength, reasons, a comment, places, a better
// answer. A card keeps its draft until it is answered. It knows no page and no server.
const MOST_COMMENT_CHARACTERS = 4000;

function newDraft(old = null) {
  return {
    old, // what was said of the card before, or null
    strength: old?.strength ?? null, reasons: new Set(old?.reasons), comment: old?.comment ?? "", picks: [],
    editOf: old?.edit?.response ?? null, edits: new Map(old?.edit ? [[old.edit.response, old.edit.text]] : []),
    touched: new Set(),
  };
}

function createDraft() {
  const drafts = new Map();
  let now = newDraft();

  // What belonged to another verdict goes with it, unless the person has touched it since.
  const holds = (field, word) => !now.old || now.old.word === word || now.touched.has(field);

  return {
    begin(key) { // null: there is no card
      if (key === null) return void (now = newDraft());
      if (!drafts.has(key)) drafts.set(key, newDraft());
      now = drafts.get(key);
    },
    recall(key, said) { drafts.set(key, newDraft(said)); },
    forget(key) { drafts.delete(key); },
    clear() {
      drafts.clear();
      now = newDraft();
    },
    get old() { return now.old; },
    get strength() { return now.strength; },
    get reasons() { return now.reasons; },
    get comment() { return now.comment; },
    get picks() { return now.picks; },
    get editOf() { return now.editOf; },
    textOf: (responseId) => now.edits.get(responseId),
    toggleStrength(strength) {
      now.strength = now.strength === strength ? null : strength;
      now.touched.add("strength");
    },
    toggleReason(reason) {
      if (!now.reasons.delete(reason)) now.reasons.add(reason);
      now.touched.add("reasons");
    },
    setComment(text) {
      now.comment = text.slice(0, MOST_COMMENT_CHARACTERS);
      now.touched.add("comment");
    },
    startFrom(responseId) { now.editOf = responseId; },
    setText(responseId, text) { now.edits.set(responseId, text); },
    pick(responseId) { if (!now.picks.includes(responseId)) now.picks.push(responseId); },
    unpick: () => now.picks.pop() ?? null,
    // All that is said with a word. strength: what the key itself said, instead of the toggles.
    said(word, { strength, ranking = null, edit = null } = {}) {
      const ownStrength = strength ?? (holds("strength", word) ? now.strength : null);
      return {
        word, ranking, edit,
        strength: STRONG_WORDS.includes(word) ? ownStrength : null,
        reasons: !SET_ASIDE.includes(word) && holds("reasons", word) ? [...now.reasons] : [],
        comment: holds("comment", word) ? now.comment.trim() : "",
      };
    },
  };
}
