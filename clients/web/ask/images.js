// Images that are sent with a question: read, made smaller where they are large, shown, taken out.

import { button, element } from "../base/elements.js";

const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const PICTURE = /^data:image\/(png|jpeg|webp|gif);base64,/;
// Bytes and pixels that a model makes nothing more of.
const LARGE = 1 << 20;
const LONGEST_SIDE = 2048;

export const isImage = (file) => KINDS.includes(file.type);

// Returns files as parts of a question.
export function parts(files) {
  return Promise.all([...files].filter(isImage).map(async (file) => partOf(await addressOf(file))));
}

// Shows the images among parts; `remove(part)` lets a button take one out.
export function pictures(content, remove) {
  return content.filter((part) => part.type === "image_url").map((part) => {
    const made = element("span", "picture");
    made.append(picture(part.image_url.url));
    if (remove) made.append(button("Remove image", () => remove(part), "✕"));
    return made;
  });
}

// One from elsewhere would tell its server who reads.
function picture(url) {
  return PICTURE.test(url) ? Object.assign(element("img"), { src: url, alt: "Image" }) : "[image]";
}

function partOf(url) {
  return { type: "image_url", image_url: { url } };
}

function addressOf(file) {
  return file.size > LARGE ? smaller(file) : asIs(file);
}

function asIs(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

async function smaller(file) {
  const image = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const canvas = element("canvas");
  canvas.width = image.width * scale;
  canvas.height = image.height * scale;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.85);
}
