// The dialog of settings: of the conversation shown, of this device, and the key.

import * as dialogs from "../base/dialogs.js";
import { button, element, labelled } from "../base/elements.js";
import { modelField } from "../ask/models.js";
import { askForKey, forgetKey, get, key, send } from "../line/server.js";
import { pathOf } from "./actions.js";

const SUMMARISE = "summarize";
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

function conversationForm(conversation, save) {
  const { model, system_prompt, truncation, message_count = 0, metadata = {} } = conversation;
  const form = element("form");
  const models = modelField(model ?? "", "The server’s choice");
  const fields = {
    model: models.field,
    character: Object.assign(element("input"), { value: metadata.character ?? "", dir: "auto" }),
    system: Object.assign(element("textarea"), { value: system_prompt ?? "", rows: 4, dir: "auto" }),
    temperature: Object.assign(element("input"), { type: "number", min: 0, max: 2, step: "any" }),
    summarise: Object.assign(element("input"), { type: "checkbox", checked: truncation === SUMMARISE }),
  };
  const summarise = element("label", "check");
  summarise.append(fields.summarise, " Summarise what the model has no room for");
  fields.temperature.value = metadata.temperature ?? "";
  fields.temperature.placeholder = "The model’s own";
  const submit = button("Save");
  submit.type = "submit";
  submit.className = "main";
  const refusal = element("p", "refused");
  refusal.role = "alert";
  form.append(
    models.label,
    // One who has begun to talk stays who it is.
    ...(message_count ? [] : [labelled("Character", fields.character)]),
    labelled("System prompt", fields.system),
    labelled("Temperature", fields.temperature),
    summarise,
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
  return form;
}

// What was entered: what a conversation has, and what is kept beside it for all who show it.
function entered({ model, character, system, temperature, summarise }) {
  return {
    settings: { model: model.value.trim() || null, system_prompt: system.value.trim() || null },
    truncation: summarise.checked ? SUMMARISE : "trim",
    beside: {
      character: character.value.trim() || null,
      temperature: temperature.value === "" ? null : Number(temperature.value),
    },
  };
}

function keep({ id, metadata }, { settings, truncation, beside }) {
  return send("PATCH", pathOf(id), {
    ...settings,
    truncation,
    metadata: given({ ...metadata, ...beside }),
  });
}

async function make({ settings, truncation, beside }) {
  const wanted = { ...given(settings), metadata: given(beside) };
  const { id } = await (await send("POST", "conversations", wanted)).json();
  if (truncation === SUMMARISE) await send("PATCH", pathOf(id), { truncation });
  return id;
}

function given(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
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
