// Text of strangers, safe to show: what hubdock.core.text.make_plain does on the server. Show the result as text (textContent), never as markup.
const ANSI = /\x1b(?:\[[0-?]*[ -\/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_]|[ -\/]+[0-~])/g;
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]/gu;
const UNSEEN = /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const JOINER = /(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])/gu;

export function plain(text, limit = 2000) {
  const shown = [...String(text).slice(0, 8 * limit).replace(ANSI, "")].slice(0, limit + 1).join("");
  const clean = shown.replace(CONTROL, " ").replace(JOINER, "\ufffd").replace(UNSEEN, "\ufffd").trimEnd();
  const letters = [...clean];
  return letters.length <= limit ? clean : `${letters.slice(0, limit).join("")}…`;
}
