// The list of keys on the screen, where each can be changed, and the small keys on the buttons. It does not know what
// a command does.
function createKeyPanel(element, keys) {
  const list = element.querySelector(".label-keys"), note = element.querySelector(".label-keys-note");
  const usual = note.textContent;
  let kind = "pair", waiting = null; // the command whose new key is waited for

  // Write a command's keys on its button: as many as the button has places for.
  function hint(button) {
    const own = keys.keysOf(button.dataset.command);
    if (own.length) button.setAttribute("aria-keyshortcuts", own.map(ariaKey).join(" "));
    else button.removeAttribute("aria-keyshortcuts");
    button.querySelectorAll("kbd:not([data-fixed])").forEach((place, index) => {
      place.textContent = own[index] ? keyLabel(own[index]) : "";
      place.hidden = !own[index];
    });
  }

  function hints() {
    for (const button of element.querySelectorAll("button[data-command]")) hint(button);
  }

  function row({ id, text }) {
    const button = document.createElement("button"), term = document.createElement("dt"), sense = document.createElement("dd");
    const own = waiting === id ? ["press a key"] : keys.keysOf(id).map(keyLabel);
    button.type = "button";
    button.dataset.rebind = id;
    button.setAttribute("aria-pressed", String(waiting === id));
    button.setAttribute("aria-label", `${text}: ${own.join(", ") || "none"}. Change the key`);
    for (const label of own.length ? own : ["none"]) {
      const key = document.createElement(own.length && waiting !== id ? "kbd" : "span");
      key.textContent = label;
      button.append(key);
    }
    sense.textContent = text;
    term.append(button);
    return [term, sense];
  }

  function render() {
    list.replaceChildren(...keys.of(kind).flatMap(row));
    note.textContent = waiting ? "Press the new key, or Esc to leave it as it is." : usual;
  }

  function wait(id) {
    waiting = id;
    render();
    list.querySelector(`[data-rebind="${CSS.escape(id)}"]`)?.focus();
  }

  function changed() {
    const id = waiting;
    waiting = null;
    render();
    hints();
    if (id) list.querySelector(`[data-rebind="${CSS.escape(id)}"]`)?.focus();
  }

  element.querySelector(".label-help").addEventListener("click", ({ target }) => {
    const button = target.closest("[data-rebind], [data-preset]");
    if (!button) return;
    if (button.dataset.rebind) return wait(button.dataset.rebind);
    if (button.dataset.preset === "reset") keys.reset();
    else keys.preset(button.dataset.preset);
    waiting = null;
    changed();
  });

  return {
    hint, hints,
    show(name) { kind = name; waiting = null; render(); },
    // Take a key press while a new key is waited for; true when it was taken.
    take(event) {
      if (!waiting || event.ctrlKey || event.metaKey || event.altKey) return false;
      if (event.key === "Escape") { changed(); return true; }
      if (event.isComposing || event.repeat || NO_COMMAND.includes(event.key)) return event.key !== "Tab";
      keys.bind(waiting, keyNames(event)[0]);
      changed();
      return true;
    },
  };
}
