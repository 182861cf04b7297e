// The row above the answers: strength, reasons and the comment. It shows a draft and knows nothing of what is done
// with it; `hint` writes the keys on a button.
function createExtras(element, draft, hint) {
  const find = (selector) => element.querySelector(selector);
  const box = find(".label-comment"), field = box.querySelector("textarea"), count = box.querySelector(".label-comment-count");
  const row = find(".label-reasons"), button = find('.label-extras [data-command="comment"]');
  let reasons = [], shown = "", shownChips = "", opener = null;

  function chip(reason, index, kind) {
    const made = document.createElement("button"), text = document.createElement("span"), key = document.createElement("kbd");
    made.type = "button";
    made.dataset.command = `reason ${index + 1}${kind === "ranking" ? " ranking" : ""}`;
    key.setAttribute("aria-hidden", "true");
    text.textContent = reason;
    made.append(key, text);
    hint(made);
    return made;
  }

  // The project's reasons, and those that an old answer has and the project no longer.
  const all = () => [...new Set([...reasons, ...draft.reasons])];

  function render(kind) {
    const list = all(), chips = JSON.stringify([kind, list]);
    const wanted = JSON.stringify([chips, [...draft.reasons], draft.strength, draft.comment, box.hidden]);
    if (wanted === shown) return; // most cards have nothing of it
    shown = wanted;
    if (chips !== shownChips) row.replaceChildren(...list.map((reason, index) => chip(reason, index, kind)));
    shownChips = chips;
    [...row.children].forEach((one, index) => one.setAttribute("aria-pressed", String(draft.reasons.has(list[index]))));
    for (const strength of ["slightly", "clearly"]) {
      find(`[data-command="${strength}"]`).setAttribute("aria-pressed", String(draft.strength === strength));
    }
    button.classList.toggle("has", Boolean(draft.comment));
    button.title = draft.comment;
    button.setAttribute("aria-label", draft.comment ? `Comment: ${draft.comment}` : "Comment");
    button.querySelector("span").textContent = draft.comment || "Comment";
    button.setAttribute("aria-expanded", String(!box.hidden));
  }

  function openComment(open) {
    if (box.hidden !== open) return;
    const hadFocus = box.contains(document.activeElement);
    box.hidden = !open;
    if (open) {
      opener = document.activeElement;
      field.value = draft.comment;
      write();
      field.focus();
    } else if (hadFocus) {
      focusOn(opener);
    }
  }

  function write() {
    count.textContent = `${field.value.length} of ${MOST_COMMENT_CHARACTERS}`;
  }

  return {
    render,
    setReasons(list) { reasons = list; },
    reason: (number) => all()[number - 1],
    get commenting() { return !box.hidden; },
    openComment,
    // onDone: the person has finished the comment.
    listen(onChange, onDone) {
      field.maxLength = MOST_COMMENT_CHARACTERS;
      field.addEventListener("input", () => { draft.setComment(field.value); write(); onChange(); });
      box.addEventListener("keydown", (event) => {
        const done = event.key === "Escape" || (event.key === "Enter" && (event.ctrlKey || event.metaKey));
        if (!done || event.isComposing) return;
        event.preventDefault();
        event.stopPropagation();
        onDone();
      });
    },
  };
}
