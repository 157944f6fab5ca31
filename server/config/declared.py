"""How a setting is declared: its variables, its help, and where it stands in trialogue.toml."""

from __future__ import annotations

import tomllib
from typing import Any

from pydantic import AliasChoices, Field
from pydantic.fields import FieldInfo
from pydantic_settings import TomlConfigSettingsSource

from server.config.settings_files import SettingsError, text_of

TOML_FILE = "trialogue.toml"


def setting(
    default: Any,
    *names: str,
    help: str,  # noqa: A002
    secret: bool = False,
    toml: str | None = None,
) -> Any:
    """Declare a setting: the variables it is read from, first the one to tell people of.

    `toml` is where it stands in trialogue.toml, if not under its own name.
    """
    return Field(
        default,
        validation_alias=AliasChoices(*names),
        description=help,
        json_schema_extra={"secret": secret} | ({"toml": toml} if toml else {}),
    )


def variables_of(field: FieldInfo) -> list[str]:
    """Return the environment variables of a setting, first the one to tell people of."""
    alias = field.validation_alias
    assert isinstance(alias, AliasChoices)  # noqa: S101 - `setting` makes no other
    return [str(name) for name in alias.choices]


class Toml(TomlConfigSettingsSource):
    """trialogue.toml, whose keys are the fields' own names."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            return tomllib.loads(text_of(file_path))
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{TOML_FILE}: {error}") from None

    def __call__(self) -> dict[str, Any]:
        data = dict(self.toml_data)
        if "local" in data:
            data |= _local(data.pop("local"))
        for name in data:
            if name not in self.settings_cls.model_fields:
                raise SettingsError(f"{TOML_FILE}: there is no setting {name!r}")
        fields = self.settings_cls.model_fields
        return {variables_of(fields[name])[0]: value for name, value in data.items()}


def _local(table: Any) -> dict[str, Any]:
    """Return the two settings that `[local]` is: which models, and how they are run."""
    if not isinstance(table, dict):
        raise SettingsError(f"{TOML_FILE}: [local] is a table, and its `models` a list of names")
    options = {name: value for name, value in table.items() if name != "models"}
    return {"local_options": options} | ({"local": table["models"]} if "models" in table else {})
