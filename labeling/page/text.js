// Texts as Markdown for the cards. It knows nothing of the page.

// Dollar mathematics, told from prices and shell variables as pandoc does it: no space after the opening dollar nor
// before the closing one, no word after that, all on one line. `$$…$$` is left as it is, and so is code.
const CODE = /(^ {0,3}(`{3,}|~{3,})[^]*?(?:^ {0,3}\2|$(?![^]))|(`+)[^]*?[^`]\3(?!`)|\$\$[^]*?\$\$)/m;
const INLINE_MATH = /(?<![\\$\w])\$(?![\s$])((?:[^$\n\\]|\\.)*?[^\s$\\])\$(?![\w{$])/g;

// Gradio protects whatever lies between two delimiters from Markdown, prices included: so it gets `\(…\)` only.
function mathMarkdown(text) {
  let plain = "", rest = text;
  for (let code = CODE.exec(rest); code; code = CODE.exec(rest)) {
    plain += rest.slice(0, code.index).replace(INLINE_MATH, "\\($1\\)") + code[0];
    rest = rest.slice(code.index + code[0].length);
  }
  return plain + rest.replace(INLINE_MATH, "\\($1\\)");
}

// The conversation before the last message as Markdown. Each line of a message is quoted, so that nothing inside one
// (an open code fence, a heading) can reach the next.
function contextMarkdown(messages) {
  const names = { system: "System", user: "User", assistant: "Assistant" };
  return messages.slice(0, -1).map(({ role, content }) => {
    const quoted = mathMarkdown(content).split(/\r\n|\r|\n/).map((line) => `> ${line}`).join("\n");
    return `###### ${names[role] ?? "Message"}\n\n${quoted}`;
  }).join("\n\n");
}

const shownText = (text) => (text.trim() ? mathMarkdown(text) : "*(an empty response)*");

// The values of the components: context, prompt and the first two responses; and those that only rankings have.
function cardTexts(card) {
  if (!card) return ["", "", "", ""];
  const [a, b] = card.responses.map((response) => shownText(response.text));
  return [contextMarkdown(card.messages), shownText(card.messages.at(-1)?.content ?? ""), a, b ?? ""];
}

const moreTexts = (card) => [2, 3, 4, 5].map((index) => (card?.responses[index] ? shownText(card.responses[index].text) : ""));
