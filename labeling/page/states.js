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

function stateOf(state, { title, text, actions = [] } = {}) {
  return { state, title: title ?? STATES[state][0], text: text ?? STATES[state][1], actions };
}

// overview: the server's figures or null; other: the kind to go to from here; saving: answers wait and the figures do
// not have them.
function whyNoCard({ project, annotator, unreachable, overview, kind, other, saving }) {
  if (project === null) return stateOf("project");
  if (!annotator) return stateOf("name");
  if (unreachable) return stateOf("offline");
  if (!overview) return stateOf("loading");
  if (saving) return stateOf("saving");
  if (KINDS.every((one) => !overview[one].total)) {
    return overview.is_example ? stateOf("writing") : stateOf("empty", { actions: ["data"] });
  }
  const { total, done, mine } = overview[kind], rest = other === kind ? 0 : overview[other].total - overview[other].done;
  const others = amount(rest, other);
  const actions = [...(rest > 0 ? ["other"] : []), ...(overview.skipped ? ["restore"] : [])];
  if (!total) {
    return stateOf("wait", { title: `No ${nounOf(kind)}s in this project`, text: `To label here: ${others}.`, actions });
  }
  if (done >= total) {
    if (overview.is_match) {
      const text = `Voted on: ${amount(total, kind)}, ${mine} of them by you. Next: see which model people prefer.`;
      return stateOf("done", { text, actions: ["arena", ...actions, "undo"] });
    }
    const next = rest > 0
      ? `Still waiting: ${others}. Or train a model on what there is.`
      : "Next: train a model on your answers.";
    const text = `Labelled: ${amount(total, kind)}, ${mine} of them by you. ${next}`;
    return stateOf("done", { text, actions: ["train", ...actions, "undo"] });
  }
  const why = overview.skipped
    ? `You have set aside ${overview.skipped}; the others are on somebody else's screen, if there are any.`
    : "They are on somebody else's screen, and come here when they are not answered there.";
  return stateOf("wait", { text: `Left: ${amount(total - done, kind)}. ${why}`, actions: [...actions, "undo"] });
}
