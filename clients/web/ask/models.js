// The field for a model's name, which knows those that the server offers; and a dialog to choose one.

import * as dialogs from "../base/dialogs.js";
import { button, element, labelled } from "../base/elements.js";
import { get } from "../line/server.js";

let count = 0;

export function modelField(value = "", placeholder = "") {
  const field = Object.assign(element("input"), { value, placeholder });
  const models = element("datalist");
  models.id = `models-${++count}`;
  field.setAttribute("list", models.id);
  get("v1/models").then((listed) => suggest(models, listed), () => {});
  const label = labelled("Model", field);
  label.append(models);
  return { field, label };
}

// Asks which model is to answer; `chosen(model)` is called with its name.
export function chooseModel(chosen) {
  dialogs.open("Another model", (body, close) => {
    const form = element("form");
    const { field, label } = modelField();
    const submit = button("Answer again");
    field.required = true;
    submit.type = "submit";
    submit.className = "main";
    form.append(label, submit);
    form.onsubmit = (event) => {
      event.preventDefault();
      close();
      chosen(field.value.trim());
    };
    body.append(form);
    queueMicrotask(() => field.focus());
  });
}

function suggest(models, listed) {
  for (const { id } of listed?.data ?? []) models.append(new Option(id, id));
}
