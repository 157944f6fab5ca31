// The dialog of settings: of the conversation shown, of this device, and the key.

import * as dialogs from "../base/dialogs.js";
import { button, element, labelled } from "../base/elements.js";
import { askForKey, forgetKey, get, key, send } from "../line/server.js";
import { pathOf } from "./actions.js";

const THEMES = { system: "As the system", light: "Light", dark: "Dark" };

// Shows the settings of a conversation, or of one that is made of them where there is none yet:
// `made(id)` is told. `changed()` is called when they are kept. The dialog stays until then: what
// is asked after it has gone is asked with what was saved.
export async function openSettings(id, { made, changed }) {
  const conversation = id && (await get(pathOf(id)));
  dialogs.open("Settings", (body, close) => {
    const form = conversationForm(conversation ?? {}, async (settings) => {
      await (conversation ? keep(conversation, settings) : make(settings).then(made));
      close();
      changed();
    });
    body.append(form, deviceSettings(close));
  });
}

function conversationForm({ model, system_prompt, metadata = {} }, save) {
  const form = element("form");
  const models = element("datalist");
  const fields = {
    model: Object.assign(element("input"), { value: model ?? "", placeholder: "The server’s choice" }),
    system: Object.assign(element("textarea"), { value: system_prompt ?? "", rows: 4, dir: "auto" }),
    temperature: Object.assign(element("input"), { type: "number", min: 0, max: 2, step: "any" }),
  };
  models.id = "models";
  fields.model.setAttribute("list", models.id);
  fields.temperature.value = metadata.temperature ?? "";
  fields.temperature.placeholder = "The model’s own";
  const submit = button("Save");
  submit.type = "submit";
  submit.className = "main";
  const refusal = element("p", "refused");
  refusal.role = "alert";
  form.append(
    labelled("Model", fields.model),
    models,
    labelled("System prompt", fields.system),
    labelled("Temperature", fields.temperature),
    refusal,
    submit,
  );
  form.onsubmit = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    refusal.textContent = "";
    try {
      await save(entered(fields));
    } catch (error) {
      refusal.textContent = error.message;
    }
    submit.disabled = false;
  };
  get("v1/models").then((listed) => suggest(models, listed), () => {});
  return form;
}

function entered({ model, system, temperature }) {
  return {
    model: model.value.trim() || null,
    system_prompt: system.value.trim() || null,
    temperature: temperature.value === "" ? null : Number(temperature.value),
  };
}

function suggest(models, listed) {
  for (const { id } of listed?.data ?? []) models.append(new Option(id, id));
}

// The temperature is kept with the conversation, for all who show it.
function keep({ id, metadata }, { temperature, ...settings }) {
  const { temperature: _, ...rest } = metadata;
  const kept = temperature === null ? rest : { ...rest, temperature };
  return send("PATCH", pathOf(id), { ...settings, metadata: kept });
}

async function make({ temperature, ...settings }) {
  const given = Object.entries(settings).filter(([, value]) => value !== null);
  const metadata = temperature === null ? {} : { temperature };
  const response = await send("POST", "conversations", { ...Object.fromEntries(given), metadata });
  return (await response.json()).id;
}

function deviceSettings(close) {
  const here = element("div", "device");
  const theme = element("select");
  for (const [name, shown] of Object.entries(THEMES)) theme.append(new Option(shown, name));
  theme.value = document.documentElement.dataset.theme;
  theme.onchange = () => {
    localStorage.setItem("trialogue-theme", theme.value);
    document.documentElement.dataset.theme = theme.value;
  };
  here.append(labelled("Theme", theme), keyOf(close));
  return here;
}

function keyOf(close) {
  const row = element("p", "row-of-key");
  const anew = () => location.reload();
  const enter = async () => {
    close();
    await askForKey("", key());
    anew();
  };
  const forget = () => {
    forgetKey();
    anew();
  };
  row.append(key() ? "An API key is kept here." : "No API key is kept here.");
  row.append(button(key() ? "Enter another key" : "Enter a key", enter));
  if (key()) row.append(button("Forget the key", forget));
  return row;
}
