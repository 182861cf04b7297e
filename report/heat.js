// Says the numbers of one token below the map, to a finger and to the keyboard: all tokens are one stop of the Tab key,
// and the arrow keys go from one to the next.
const tokenOf = (event) => event.target.closest(".report-tokens > span");
element.addEventListener("focusin", (event) => {
  const token = tokenOf(event);
  if (!token) return;
  token.parentElement.querySelector('[tabindex="0"]').tabIndex = -1;
  token.tabIndex = 0;
  element.querySelector(".report-told").textContent = `“${token.textContent}” ${token.title}`;
});
element.addEventListener("keydown", (event) => {
  const token = tokenOf(event);
  if (!token) return;
  const all = [...token.parentElement.children], at = all.indexOf(token);
  const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (!(next in all)) return;
  event.preventDefault();
  all[next].focus();
});
