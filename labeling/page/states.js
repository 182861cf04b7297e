// What the page says when there is no card to show: a state, a title, a sentence, and the buttons that help.
// It knows nothing of the page but the words.
const STATES = {
  loading: ["One moment", "Fetching the next items."],
  project: ["Choose a project", "Pick one at the top of the page, or import a file in the Data tab."],
  name: ["Who is labelling?", "Write your name at the top of the page: labels are kept by annotator."],
  writing: ["The demo model is writing the first answers", "They appear here by themselves in a few seconds."],
  empty: [
    "Nothing to label yet",
    "Import a file or let a model answer your prompts in the Data tab. New items appear here by themselves.",
  ],
  saving: ["Saving your last answers", "They are kept in this browser until the server has them."],
  offline: [
    "No connection to the server",
    "What you have answered is kept in this browser. The next items come when the connection is back.",
  ],
  done: ["All done", ""],
  wait: ["Nothing for you right now", ""],
};

const otherKind = (kind) => (kind === "pair" ? "single" : "pair");
const nounOf = (kind) => (kind === "pair" ? "pair" : "single response");
const amount = (count, kind) => `${count} ${nounOf(kind)}${count === 1 ? "" : "s"}`;

function said(state, { title, text, actions = [] } = {}) {
  return { state, title: title ?? STATES[state][0], text: text ?? STATES[state][1], actions };
}

// overview: the server's figures or null; saving: answers wait and the figures do not have them.
function whyNoCard({ project, annotator, unreachable, overview, kind, saving }) {
  if (project === null) return said("project");
  if (!annotator) return said("name");
  if (unreachable) return said("offline");
  if (!overview) return said("loading");
  if (saving) return said("saving");
  if (!overview.pair.total && !overview.single.total) {
    return overview.is_example ? said("writing") : said("empty", { actions: ["data"] });
  }
  const { total, done, mine } = overview[kind], other = overview[otherKind(kind)], rest = other.total - other.done;
  const others = amount(rest, otherKind(kind));
  const actions = [...(rest > 0 ? ["other"] : []), ...(overview.skipped ? ["restore"] : [])];
  if (!total) {
    return said("wait", { title: `No ${nounOf(kind)}s in this project`, text: `To label here: ${others}.`, actions });
  }
  if (done >= total) {
    const next = rest > 0
      ? `Still waiting: ${others}. Or train a model on what there is.`
      : "Next: train a model on your answers.";
    const text = `Labelled: ${amount(total, kind)}, ${mine} of them by you. ${next}`;
    return said("done", { text, actions: ["train", ...actions, "undo"] });
  }
  const why = overview.skipped
    ? `You have skipped ${overview.skipped}; the others are on somebody else's screen, if there are any.`
    : "They are on somebody else's screen, and come here when they are not answered there.";
  return said("wait", { text: `Left: ${amount(total - done, kind)}. ${why}`, actions: [...actions, "undo"] });
}
