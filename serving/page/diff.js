// What differs between two texts, word by word: the longest common subsequence of their words.
// Previous: xray_page.js.  Next: compare.js.
import { range } from "./xray/dom.js";

// Returns which words of each text are not in the other one, as two lists of booleans.
export function differences(left, right) {
  const [n, m] = [left.length, right.length];
  const longest = range(n + 1).map(() => new Uint32Array(m + 1)); // of left[i:] and right[j:]
  for (let i = n - 1; i >= 0; i -= 1) {
    for (let j = m - 1; j >= 0; j -= 1) {
      longest[i][j] = left[i] === right[j] ? longest[i + 1][j + 1] + 1
        : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const found = [Array(n).fill(true), Array(m).fill(true)];
  let [i, j] = [0, 0];
  while (i < n && j < m) {
    if (left[i] === right[j]) {
      found[0][i] = false;
      found[1][j] = false;
      [i, j] = [i + 1, j + 1];
    } else if (longest[i + 1][j] >= longest[i][j + 1]) i += 1;
    else j += 1;
  }
  return found;
}

// Returns the words of a text, each with the spaces before it.
export const wordsOf = (text) => text.match(/\s*\S+|\s+$/g) ?? [];
