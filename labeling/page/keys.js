// Which key means which command: the keys by default, and those a person chose, kept in this browser. It knows
// nothing of cards; the controller runs a command by its id, whose first word is what to do.
const KEYS_KEY = "preference-studio.label.keys";
const TYPING_PLACES = "input, textarea, select, [contenteditable]:not([contenteditable=false])";
const PRESSABLE = "button, a, summary, [role=button]";
const NO_COMMAND = ["Escape", "Tab", "Shift", "Control", "Alt", "AltGraph", "Meta", "CapsLock", "Dead", "Process", "Unidentified"];
const KEY_LABELS = {
  arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓", enter: "Enter", backspace: "Backspace", space: "Space",
  pageup: "Page up", pagedown: "Page down", delete: "Delete", home: "Home", end: "End", insert: "Insert",
};
const ARIA_KEYS = {
  arrowleft: "ArrowLeft", arrowright: "ArrowRight", arrowup: "ArrowUp", arrowdown: "ArrowDown", enter: "Enter",
  backspace: "Backspace", space: "Space", pageup: "PageUp", pagedown: "PageDown", "+": "Plus",
};

const command = (id, kinds, keys, text) => ({
  id, text, kinds: kinds === "all" ? KINDS : kinds.split(" "), keys: keys.split(" "),
});
const each = (count, make) => Array.from({ length: count }, (_, index) => make(index + 1));
const COMMANDS = [
  command("a", "pair", "1 arrowleft a", "A is better"),
  command("b", "pair", "2 arrowright b", "B is better"),
  command("tie", "pair", "3 t", "Tie: equally good"),
  command("both_bad", "pair", "4 x", "Both are bad"),
  command("a slightly", "pair", "q", "A is slightly better"),
  command("b slightly", "pair", "w", "B is slightly better"),
  command("a clearly", "pair", "shift+1", "A is clearly better"),
  command("b clearly", "pair", "shift+2", "B is clearly better"),
  command("tie clearly", "pair", "shift+3", "Clearly a tie"),
  command("both_bad clearly", "pair", "shift+4", "Both are clearly bad"),
  command("slightly", "pair", "-", "Slightly: goes with the next answer"),
  command("clearly", "pair", "+ =", "Clearly: goes with the next answer"),
  command("good", "single", "1 arrowleft g", "Good"),
  command("bad", "single", "2 arrowright b", "Bad"),
  ...each(6, (place) => command(`rank ${place}`, "ranking", String(place), `Response ${place} is the best of the rest`)),
  command("rest", "ranking", "enter", "The rest are equally last"),
  ...each(5, (place) => command(`reason ${place}`, "pair single", String(place + 4), `Reason ${place}`)),
  ...each(3, (place) => command(`reason ${place} ranking`, "ranking", String(place + 6), `Reason ${place}`)),
  command("comment", "all", "c", "Comment"),
  command("edit", "all", "e", "Write a better answer"),
  command("skip", "all", "s", "Skip: set it aside without a label"),
  command("flag", "all", "f", "Flag: something is wrong with this item"),
  command("undo", "all", "u z backspace", "Undo: the last card comes back with your answer marked"),
  command("recent", "all", "h", "My last labels, to look at and to change"),
  command("difference", "pair", "d", "Show where A and B differ, word by word"),
  command("link", "pair ranking", "l", "Scroll the responses together, or each by itself"),
  command("page down", "all", "pagedown", "Scroll the responses down"),
  command("page up", "all", "pageup", "Scroll the responses up"),
  command("other", "all", "k", "Switch between pairs, singles and rankings"),
  command("guidelines", "all", "i", "Guidelines of this project"),
  command("help", "all", "?", "These keys"),
];
const PRESETS = {
  digits: { a: ["1"], b: ["2"], tie: ["3"], both_bad: ["4"], good: ["1"], bad: ["2"] },
  arrows: {
    a: ["arrowleft"], b: ["arrowright"], tie: ["arrowup"], both_bad: ["arrowdown"], good: ["arrowleft"], bad: ["arrowright"],
  },
  all: Object.fromEntries(COMMANDS.filter(({ id }) => /^(a|b|tie|both_bad|good|bad)$/.test(id)).map(({ id, keys }) => [id, keys])),
};

const keyLabel = (key) => (key.startsWith("shift+") ? `Shift ${key.slice(6)}` : KEY_LABELS[key] ?? key.toUpperCase());
const ariaKey = (key) => (key.startsWith("shift+") ? `Shift+${key.slice(6)}` : ARIA_KEYS[key] ?? key.toUpperCase());

// The names of a pressed key, the most particular first. A digit is told by its place on the keyboard: with Shift, or
// on a French keyboard without it, `key` is another character.
function keyNames(event) {
  const digit = /^Digit(\d)$/.exec(event.code ?? "")?.[1], name = event.key === " " ? "space" : event.key.toLowerCase();
  if (digit) return event.shiftKey ? [`shift+${digit}`, name] : [digit, name];
  return [name];
}

// Not for us: a held key, a shortcut of the browser, a text that is being composed (Chinese, Japanese) or typed, an
// arrow that moves between tabs, Enter on a button.
function isMeantElsewhere(event) {
  if (!event.key || event.repeat || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return true;
  const place = event.target?.closest ? event.target : document.body;
  if (place.closest(TYPING_PLACES)) return true;
  if (event.key === "Enter" || event.key === " ") return Boolean(place.closest(PRESSABLE));
  return event.key.startsWith("Arrow") && Boolean(place.closest("[role=tablist], [role=radiogroup]"));
}

function createKeys() {
  let chosen = read();

  function read() {
    try {
      const kept = Object.entries(JSON.parse(localStorage.getItem(KEYS_KEY)) ?? {});
      return Object.fromEntries(kept.filter(([, keys]) => Array.isArray(keys) && keys.every((key) => typeof key === "string")));
    } catch {
      return {};
    }
  }

  function write() {
    try {
      localStorage.setItem(KEYS_KEY, JSON.stringify(chosen));
    } catch { /* they live as long as the page */ }
  }

  const keysOf = ({ id, keys }) => chosen[id] ?? keys;
  const byId = (id) => COMMANDS.find((one) => one.id === id);

  // Give a command these keys and no others; whoever had one of them in the same kind of item loses it.
  function assign(id, keys) {
    const target = byId(id);
    for (const other of COMMANDS) {
      if (other === target || !other.kinds.some((kind) => target.kinds.includes(kind))) continue;
      const left = keysOf(other).filter((key) => !keys.includes(key));
      if (left.length < keysOf(other).length) chosen[other.id] = left;
    }
    chosen[id] = keys;
  }

  return {
    keysOf: (id) => keysOf(byId(id) ?? { id, keys: [] }),
    of: (kind) => COMMANDS.filter(({ kinds }) => kinds.includes(kind)),
    // The id of the command that a key press asks for, or null.
    commandOf(event, kind) {
      if (isMeantElsewhere(event)) return null;
      if (event.key === "Escape") return "close";
      for (const name of keyNames(event)) {
        const found = COMMANDS.find((one) => one.kinds.includes(kind) && keysOf(one).includes(name));
        if (found) return found.id;
      }
      return null;
    },
    bind(id, key) { assign(id, [key]); write(); },
    preset(name) {
      for (const [id, keys] of Object.entries(PRESETS[name])) assign(id, keys);
      write();
    },
    reset() { chosen = {}; write(); },
  };
}
