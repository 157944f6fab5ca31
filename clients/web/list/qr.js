// An address as a QR code, for a phone's camera. Without the libraries there is none.

const SVG = "http://www.w3.org/2000/svg";
// Modules of white around it, without which cameras do not find it.
const QUIET = 4;

// Draws the code of a text into an element, with what is at an address; a text that is too long has none.
export async function draw(into, text, base) {
  const { encodeQR } = await import(`${base}qr.js`);
  const rows = encodeQR(text, "raw", { ecc: "medium", border: QUIET });
  const svg = document.createElementNS(SVG, "svg");
  const dark = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", `0 0 ${rows.length} ${rows.length}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "QR code of the address");
  dark.setAttribute("d", rows.flatMap(squares).join(""));
  svg.append(dark);
  into.append(svg);
}

function squares(row, y) {
  return row.map((isDark, x) => (isDark ? `M${x} ${y}h1v1h-1z` : ""));
}
