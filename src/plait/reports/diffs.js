// Word by word, what became of a text: the shortest list of words taken out and put in (Myers 1986, "An O(ND) difference
// algorithm and its variations").

// Beyond so many changed words a diff reads worse than both texts, and takes long to find.
const MOST_CHANGES = 1500;

// [kind, text] in order: "=" kept, "-" only before, "+" only after.
function diff(before, after) {
  const a = before.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
  const b = after.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const parts = [
    ["=", a.slice(0, start).join("")],
    ...middle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ["=", a.slice(a.length - end).join("")],
  ];
  return joined(parts);
}

function middle(a, b) {
  const whole = [["-", a.join("")], ["+", b.join("")]];
  if (!a.length || !b.length) return whole;
  const most = Math.min(a.length + b.length, MOST_CHANGES);
  const reach = new Int32Array(2 * most + 2);
  const steps = [];
  for (let d = 0; d <= most; d += 1) {
    steps.push(reach.slice(most - d, most + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[most + k - 1] < reach[most + k + 1]);
      let x = down ? reach[most + k + 1] : reach[most + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reach[most + k] = x;
      if (x >= a.length && x - k >= b.length) return path(a, b, steps);
    }
  }
  return whole;
}

// The way back from the end. steps[d][i] is how far diagonal i - d had come before step d.
function path(a, b, steps) {
  const parts = [];
  let x = a.length;
  let y = b.length;
  for (let d = steps.length - 1; d > 0; d -= 1) {
    const k = x - y;
    const at = (diagonal) => steps[d][diagonal + d];
    const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const from = down ? k + 1 : k - 1;
    const fromX = at(from);
    const fromY = fromX - from;
    const kept = down ? x - fromX : x - fromX - 1;
    if (kept > 0) parts.push(["=", a.slice(x - kept, x).join("")]);
    parts.push(down ? ["+", b[fromY]] : ["-", a[fromX]]);
    x = fromX;
    y = fromY;
  }
  if (x > 0) parts.push(["=", a.slice(0, x).join("")]);
  return parts.reverse();
}

// Neighbours of a kind as one; between two "=" what was taken out stands before what was put in.
function joined(parts) {
  const found = [];
  let out = "";
  let put = "";
  const flush = () => {
    if (out) found.push(["-", out]);
    if (put) found.push(["+", put]);
    out = put = "";
  };
  parts.filter(([, text]) => text).forEach(([kind, text], index, all) => {
    const bridge = kind === "=" && /^\s+$/.test(text) && (out || put) && index + 1 < all.length;
    if (kind === "-" || bridge) out += text;
    if (kind === "+" || bridge) put += text;
    if (kind !== "=" || bridge) return;
    flush();
    const last = found[found.length - 1];
    if (last && last[0] === "=") last[1] += text;
    else found.push(["=", text]);
  });
  flush();
  return found;
}
