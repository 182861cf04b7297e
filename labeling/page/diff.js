// Word-level differences of two texts. It knows no page. Words keep the space after them; Chinese, Japanese and Thai
// characters are words of their own. Where two texts are too far apart for words, sentences are compared, then all.
const WORD = /(?:[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}]|[\p{L}\p{N}\p{M}_'’]+|[^\s])\s*|\s+/gu;
const SENTENCE = /[^.!?。！？\n]*[.!?。！？\n]+\s*|[^.!?。！？\n]+/gu;
const MOST_EDITS = 1500; // time and memory grow with its square

// Tokens as numbers, the same one for what differs in the space after it only: numbers are compared fast.
function createNumbers() {
  const numbers = new Map();
  return (token) => {
    const word = token.trim();
    if (!numbers.has(word)) numbers.set(word, numbers.size);
    return numbers.get(word);
  };
}

// Myers' greedy algorithm ("An O(ND) Difference Algorithm", 1986): for each number of edits, the furthest place reached
// on each diagonal. Takes numbers. Returns [keptInA, keptInB], arrays of booleans, or null past MOST_EDITS.
function keptTokens(a, b) {
  const most = Math.min(MOST_EDITS, a.length + b.length), reach = new Int32Array(2 * most + 3), steps = [];
  const middle = most + 1;
  for (let edits = 0; edits <= most; edits += 1) {
    steps.push(reach.slice(middle - edits - 1, middle + edits + 2));
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const at = middle + diagonal, down = diagonal === -edits || (diagonal !== edits && reach[at - 1] < reach[at + 1]);
      let x = down ? reach[at + 1] : reach[at - 1] + 1, y = x - diagonal;
      while (x < a.length && y < b.length && a[x] === b[y]) { x += 1; y += 1; }
      reach[at] = x;
      if (x >= a.length && y >= b.length) return walkBack(a, b, steps);
    }
  }
  return null;
}

function walkBack(a, b, steps) {
  const inA = new Array(a.length).fill(false), inB = new Array(b.length).fill(false);
  let x = a.length, y = b.length;
  for (let edits = steps.length - 1; edits >= 0; edits -= 1) {
    const reach = steps[edits], middle = edits + 1, diagonal = x - y, at = middle + diagonal;
    const down = diagonal === -edits || (diagonal !== edits && reach[at - 1] < reach[at + 1]);
    const fromX = edits ? reach[down ? at + 1 : at - 1] : 0, fromY = edits ? fromX - (down ? diagonal + 1 : diagonal - 1) : 0;
    while (x > fromX && y > fromY) {
      x -= 1; y -= 1;
      inA[x] = inB[y] = true;
    }
    [x, y] = [fromX, fromY];
  }
  return [inA, inB];
}

// What is the same between two changes is not worth an island when it is shorter than both: where
// sentences were written anew, a common "and" says nothing. Works on the kept tokens of both texts in place.
function withoutIslands(a, b, [inA, inB]) {
  const lengthOf = (tokens, from, to) => tokens.slice(from, to).join("").length;
  let island = null, x = 0, y = 0;
  while (x < a.length || y < b.length) {
    const [changeX, changeY] = [x, y];
    while (x < a.length && !inA[x]) x += 1;
    while (y < b.length && !inB[y]) y += 1;
    let size = Math.max(lengthOf(a, changeX, x), lengthOf(b, changeY, y));
    if (island && size >= island.size && island.before >= island.size) {
      inA.fill(false, island.x, changeX);
      inB.fill(false, island.y, changeY);
      size += island.before + island.size;
    }
    const [sameX, sameY] = [x, y];
    while (x < a.length && inA[x] && inB[y]) { x += 1; y += 1; }
    island = { x: sameX, y: sameY, before: size, size: lengthOf(a, sameX, x) };
  }
  return [inA, inB];
}

// Runs of one text: [{text, same}], neighbours joined.
function runsOf(tokens, kept) {
  const runs = [];
  tokens.forEach((text, index) => {
    if (runs.length && runs.at(-1).same === kept[index]) runs.at(-1).text += text;
    else runs.push({ text, same: kept[index] });
  });
  return runs;
}

// Returns [runs of the one, runs of the other].
function differences(one, other) {
  for (const unit of [WORD, SENTENCE]) {
    const a = one.match(unit) ?? [], b = other.match(unit) ?? [], number = createNumbers();
    const ofA = a.map(number), ofB = b.map(number), shorter = Math.min(a.length, b.length);
    let start = 0, end = 0;
    while (start < shorter && ofA[start] === ofB[start]) start += 1;
    while (end < shorter - start && ofA.at(-1 - end) === ofB.at(-1 - end)) end += 1;
    const middleOf = (tokens) => tokens.slice(start, tokens.length - end);
    const kept = keptTokens(middleOf(ofA), middleOf(ofB));
    if (!kept) continue;
    const whole = (middle) => [...new Array(start).fill(true), ...middle, ...new Array(end).fill(true)];
    const [inA, inB] = withoutIslands(middleOf(a), middleOf(b), kept);
    return [runsOf(a, whole(inA)), runsOf(b, whole(inB))];
  }
  return [[{ text: one, same: false }], [{ text: other, same: false }]];
}
