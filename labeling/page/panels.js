// Panels over the page, one at a time: which is open, where the focus goes and where it returns to. It does not know
// what is in them.
const PANELS = { help: ".label-help", guidelines: "#label-guidelines", recent: ".label-recent", edit: ".label-edit" };
const FOCUSABLE = "button, textarea, input, [href], [tabindex]:not([tabindex='-1'])";

// Nowhere is a place too: a field that is hidden would else keep the keys until the next frame.
function focusOn(place) {
  document.activeElement?.blur?.();
  place?.focus?.({ preventScroll: true });
}

function createPanels(element) {
  const find = (name) => element.querySelector(PANELS[name]);
  let current = null, opener = null;

  function open(name) {
    if (name === current) return;
    if (!current) opener = document.activeElement;
    current = name;
    element.dataset.panel = name ?? "";
    element.querySelector(".label-veil").hidden = !name;
    for (const one of Object.keys(PANELS)) {
      if (one !== "guidelines") find(one).hidden = one !== name; // that one is Gradio's; the style sheet hides it
    }
    if (name === "guidelines") describe(find(name));
    focusOn(name ? find(name) : opener);
  }

  // The guidelines are a column of Gradio's: tell what it is to those who do not see it.
  function describe(column) {
    for (const [name, value] of Object.entries({ role: "dialog", "aria-modal": "true", "aria-label": "Guidelines", tabindex: "-1" })) {
      column?.setAttribute(name, value);
    }
  }

  // The focus stays in the open panel.
  function keepFocus(event) {
    const panel = current && event.key === "Tab" ? find(current) : null;
    if (!panel) return;
    const places = [...panel.querySelectorAll(FOCUSABLE)].filter((place) => place.offsetParent !== null && !place.disabled);
    const from = places.indexOf(document.activeElement), last = places.length - 1;
    const next = event.shiftKey ? (from <= 0 ? last : from - 1) : from === last ? 0 : from + 1;
    event.preventDefault();
    (places[next] ?? panel).focus();
  }

  return {
    open, keepFocus,
    close: () => open(null),
    toggle: (name) => open(current === name ? null : name),
    get current() { return current; },
  };
}
