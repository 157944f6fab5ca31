"""Every setting, read once and frozen: flags over environment over .env over trialogue.toml."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    PositiveFloat,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

TOML_FILE = "trialogue.toml"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SettingsError(Exception):
    """A setting that cannot be: one line that names it and says what it may be."""


def _setting(default: Any, *names: str, help: str, secret: bool = False) -> Any:  # noqa: A002
    """Declare a setting: the variables it is read from, first the one to tell people of."""
    return Field(
        default,
        validation_alias=AliasChoices(*names),
        description=help,
        json_schema_extra={"secret": secret},
    )


def _address(value: str) -> str:
    """Return the address of a server that speaks OpenAI's API; a bare one is completed."""
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be a URL such as http://localhost:8080/v1")
    return value if url.path.strip("/") else f"{value.rstrip('/')}/v1"


Names = Annotated[tuple[str, ...], NoDecode]
Address = Annotated[str, AfterValidator(_address)]


class UpstreamTable(BaseModel):
    """One `[[upstreams]]` of trialogue.toml; its key stays in the variable that it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    base_url: Address
    key_variable: str | None = None
    #: the models that it serves: names, or patterns such as gpt-*
    models: tuple[str, ...] = ("*",)
    #: names of ours for models of its own
    aliases: dict[str, str] = {}
    #: models that take no messages, only text
    completions_only: tuple[str, ...] = ()
    #: in seconds; unset: the settings for all upstreams
    timeout: PositiveFloat | None = None
    first_byte_timeout: PositiveFloat | None = None
    between_timeout: PositiveFloat | None = None


class Settings(BaseSettings):
    """What a user may set. `describe` turns this table into `--help` and the documentation."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        env_ignore_empty=True,
        toml_file=TOML_FILE,
        extra="ignore",
        protected_namespaces=(),
    )

    openai_api_key: SecretStr | None = _setting(
        None,
        "OPENAI_API_KEY",
        help="the upstream's key; unset: the built-in Eliza answers",
        secret=True,
    )
    openai_base_url: Address | None = _setting(
        None,
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "OPENAI_API_HOST",
        help="any server that speaks OpenAI's API",
    )
    upstreams: Annotated[tuple[UpstreamTable, ...], NoDecode] = _setting(
        (),
        "TRIALOGUE_UPSTREAMS",
        help="more upstreams, asked before it: [[upstreams]] in trialogue.toml, or here as JSON",
    )
    model: str | None = _setting(
        None,
        "TRIALOGUE_MODEL",
        "GPT_ENGINE",
        "DEFAULT_MODEL",
        help="for conversations that name none; 'eliza' needs no upstream",
    )
    encoding: str | None = _setting(
        None,
        "TRIALOGUE_ENCODING",
        "ENCODING_NAME",
        help="tiktoken encoding, gpt2 to o200k_harmony; unset: the model's own",
    )
    system_prompt: str | None = _setting(
        None,
        "TRIALOGUE_SYSTEM_PROMPT",
        "FIRST_PROMPT",
        help="of conversations that name none; never trimmed",
    )
    context_window: int | None = _setting(
        None, "TRIALOGUE_CONTEXT_WINDOW", help="tokens of the window; unset: the model's"
    )
    max_tokens: int | None = _setting(
        None, "TRIALOGUE_MAX_TOKENS", help="tokens reserved for an answer; unset: the model's"
    )
    host: str = _setting(
        "127.0.0.1", "TRIALOGUE_HOST", help="address to listen on (--listen: 0.0.0.0)"
    )
    http_port: int = _setting(8000, "TRIALOGUE_HTTP_PORT", help="REST, SSE, page; 0: a free one")
    grpc_port: int = _setting(9000, "TRIALOGUE_GRPC_PORT", help="gRPC; 0: a free one")
    websocket_port: int = _setting(
        9001, "TRIALOGUE_WEBSOCKET_PORT", help="websocket; 0: a free one"
    )
    database: str = _setting(
        "sqlite:///trialogue.db", "TRIALOGUE_DATABASE", help="where history is kept"
    )
    api_keys: Annotated[SecretStr | None, NoDecode] = _setting(
        None,
        "TRIALOGUE_API_KEYS",
        help="who may come in: name:key or key, comma-separated",
        secret=True,
    )
    auth: Literal["on", "off"] = _setting(
        "on", "TRIALOGUE_AUTH", help="'off' lets everyone in, on any address"
    )
    tls_cert: Path | None = _setting(
        None, "TRIALOGUE_TLS_CERT", help="certificate chain (PEM) for all three ports"
    )
    tls_key: Path | None = _setting(None, "TRIALOGUE_TLS_KEY", help="its private key (PEM)")
    allowed_origins: Names = _setting(
        (), "TRIALOGUE_ALLOWED_ORIGINS", help="browsers' origins let in besides our own, or *"
    )
    allowed_hosts: Names = _setting(
        (), "TRIALOGUE_ALLOWED_HOSTS", help="Host values let in besides our own, or *"
    )
    max_body_bytes: ByteSize = _setting(
        ByteSize(10 << 20), "TRIALOGUE_MAX_BODY_BYTES", help="of a body, message or frame"
    )
    max_upload_bytes: ByteSize = _setting(
        ByteSize(512 << 20),
        "TRIALOGUE_MAX_UPLOAD_BYTES",
        help="of a file or image that is streamed through /v1",
    )
    upstream_timeout: float = _setting(
        600.0, "TRIALOGUE_UPSTREAM_TIMEOUT", help="seconds for a whole answer"
    )
    upstream_first_byte_timeout: float = _setting(
        60.0, "TRIALOGUE_UPSTREAM_FIRST_BYTE_TIMEOUT", help="seconds until an answer begins"
    )
    upstream_retries: int = _setting(
        2, "TRIALOGUE_UPSTREAM_RETRIES", help="before an answer begins, never later"
    )
    drain_seconds: float = _setting(
        25.0, "TRIALOGUE_DRAIN_SECONDS", help="how long running turns may go on after SIGTERM"
    )
    eliza_delay: float = _setting(
        0.0, "TRIALOGUE_ELIZA_DELAY", help="simulated seconds a word of Eliza"
    )
    log_format: Literal["console", "json"] | None = _setting(
        None, "TRIALOGUE_LOG_FORMAT", help="console or json; unset: console on a terminal"
    )
    log_level: Literal["debug", "info", "warning", "error", "off"] = _setting(
        "info", "TRIALOGUE_LOG_LEVEL", help="debug, info, warning, error or off"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _Toml(settings_cls)

    @field_validator("allowed_origins", "allowed_hosts", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(one.strip().rstrip("/").lower() for one in value.split(",") if one.strip())
        return value

    @field_validator("upstreams", mode="before")
    @classmethod
    def _tables(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("must be a list of tables, as JSON") from None
        return value

    @field_validator("upstreams")
    @classmethod
    def _named_apart(cls, value: tuple[UpstreamTable, ...]) -> tuple[UpstreamTable, ...]:
        if len({one.name for one in value}) < len(value):
            raise ValueError("must have names of their own")
        return value

    @field_validator("http_port", "grpc_port", "websocket_port")
    @classmethod
    def _port(cls, value: int) -> int:
        if not 0 <= value <= 65535:
            raise ValueError("must be a port from 0 to 65535")
        return value

    @field_validator(
        "context_window",
        "max_tokens",
        "max_body_bytes",
        "max_upload_bytes",
        "upstream_timeout",
        "upstream_first_byte_timeout",
    )
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value is not None and not 0 < value < float("inf"):
            raise ValueError("must be more than 0")
        return value

    @field_validator("upstream_retries", "drain_seconds", "eliza_delay")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if not 0 <= value < float("inf"):
            raise ValueError("must be 0 or more")
        return value

    @field_validator("database")
    @classmethod
    def _database(cls, value: str) -> str:
        if not value.startswith("sqlite:///") or value == "sqlite:///":
            raise ValueError("must be sqlite:///PATH (four slashes for an absolute path)")
        return value

    @model_validator(mode="after")
    def _tls(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TRIALOGUE_TLS_CERT and TRIALOGUE_TLS_KEY go together")
        return self

    @property
    def database_path(self) -> Path:
        return Path(self.database.removeprefix("sqlite:///"))

    @property
    def public(self) -> bool:
        """Whether others than this machine can reach us."""
        return self.host not in LOOPBACK and not self.host.startswith("127.")


class _Toml(TomlConfigSettingsSource):
    """trialogue.toml, whose keys are the fields' own names."""

    def __call__(self) -> dict[str, Any]:
        for name in self.toml_data:
            if name not in self.settings_cls.model_fields:
                raise SettingsError(f"{TOML_FILE}: there is no setting {name!r}")
        return {variables(name)[0]: value for name, value in self.toml_data.items()}


def variables(field: str) -> Sequence[str]:
    """Return the environment variables of a setting, first the one to tell people of."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)  # noqa: S101 - `_setting` makes no other
    return [str(name) for name in alias.choices]


def load(flags: Mapping[str, Any] | None = None) -> Settings:
    """Read all settings; `flags` are by field name. Raises SettingsError, one line."""
    given = {variables(name)[0]: value for name, value in (flags or {}).items()}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}: {message}" if name else message) from None
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:  # a TOML file that is none
        raise SettingsError(f"{TOML_FILE}: {error}") from None
