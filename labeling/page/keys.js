// Which key means what. It knows nothing of cards; the words are those that the server takes.
const KEYS = {
  pair: {
    1: "a", arrowleft: "a", a: "a", 2: "b", arrowright: "b", b: "b",
    3: "tie", t: "tie", 4: "both_bad", x: "both_bad", s: "skip",
  },
  single: { 1: "good", arrowleft: "good", g: "good", 2: "bad", arrowright: "bad", b: "bad", s: "skip" },
};
const ACTIONS = { u: "undo", z: "undo", backspace: "undo", "?": "help", i: "guidelines", k: "other", escape: "close" };
const TYPING_PLACES = "input, textarea, select, [contenteditable]:not([contenteditable=false])";

// What a key press asks for, `{word}` or `{action}`; null when it is not meant for us: a held key, a shortcut of the
// browser, a text that is being composed (Chinese, Japanese) or typed, an arrow that moves between tabs.
function meaningOf(event, kind) {
  if (event.repeat || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return null;
  const place = event.target?.closest ? event.target : document.body;
  if (place.closest(TYPING_PLACES)) return null;
  if (event.key.startsWith("Arrow") && place.closest("[role=tablist], [role=radiogroup]")) return null;
  const key = event.key.toLowerCase(), word = KEYS[kind][key], action = ACTIONS[key];
  return word ? { word } : action ? { action } : null;
}
