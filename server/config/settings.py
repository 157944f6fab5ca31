"""Every setting, read once and frozen: flags over environment over .env over trialogue.toml."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ByteSize,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from server.config import database
from server.config.declared import TOML_FILE as TOML_FILE
from server.config.declared import Toml, setting, variables_of
from server.config.hosts import is_here, is_loopback
from server.config.kinds import (
    Address,
    BudgetText,
    DatabaseUrl,
    Names,
    Networks,
    RateText,
    RootPath,
    SentKey,
    SentNames,
)
from server.config.settings_files import SettingsError as SettingsError
from server.config.settings_files import text_of
from server.config.tables import (
    CharacterTable,
    LocalTable,
    McpTable,
    TemplateTable,
    UpstreamTable,
)

ENV_FILE = ".env"


class Settings(BaseSettings):
    """What a user may set. `describe` turns this table into `--help` and the documentation."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=ENV_FILE,
        env_file_encoding="utf-8-sig",  # with the mark that some editors begin a file with, or not
        env_ignore_empty=True,
        toml_file=TOML_FILE,
        extra="ignore",
        protected_namespaces=(),
    )

    openai_api_key: SentKey | None = setting(
        None,
        "OPENAI_API_KEY",
        help="the upstream's key; unset: the built-in Eliza answers",
        secret=True,
    )
    openai_base_url: Address | None = setting(
        None,
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "OPENAI_API_HOST",
        help="any server that speaks OpenAI's API",
    )
    upstreams: Annotated[tuple[UpstreamTable, ...], NoDecode] = setting(
        (),
        "TRIALOGUE_UPSTREAMS",
        help="more upstreams, asked before it: [[upstreams]] in trialogue.toml, or here as JSON",
    )
    characters: Annotated[dict[str, CharacterTable], NoDecode] = setting(
        {},
        "TRIALOGUE_CHARACTERS",
        help="system prompts and greetings by name: [characters.NAME] in trialogue.toml, or JSON",
    )
    templates: Annotated[dict[str, TemplateTable], NoDecode] = setting(
        {},
        "TRIALOGUE_TEMPLATES",
        help="for models that only complete text: [templates.NAME] in trialogue.toml, or JSON",
    )
    mcp: Annotated[tuple[McpTable, ...], NoDecode] = setting(
        (),
        "TRIALOGUE_MCP",
        help="servers whose tools are run for models: [[mcp]] in trialogue.toml, or here as JSON",
    )
    local: Names = setting(
        (),
        "TRIALOGUE_LOCAL",
        help="models on this machine to be served, the first by default; * for all of them",
        toml="local.models",
    )
    local_options: Annotated[LocalTable, NoDecode] = setting(
        LocalTable(),
        "TRIALOGUE_LOCAL_OPTIONS",
        help="how they are run: [local] in trialogue.toml, or here as JSON",
        toml="local",
    )
    models_folder: Path | None = setting(
        None,
        "TRIALOGUE_MODELS",
        help="where they lie; unset: trialogue/models in the user's folder of data",
    )
    llama_server: Path | None = setting(
        None,
        "TRIALOGUE_LLAMA_SERVER",
        help="llama.cpp's server that runs them; unset: the one on PATH, else the extra's",
    )
    model: str | None = setting(
        None,
        "TRIALOGUE_MODEL",
        "GPT_ENGINE",
        "DEFAULT_MODEL",
        help="for conversations that name none; 'eliza' needs no upstream",
    )
    encoding: str | None = setting(
        None,
        "TRIALOGUE_ENCODING",
        "ENCODING_NAME",
        help="tiktoken encoding, gpt2 to o200k_harmony; unset: the model's own",
    )
    system_prompt: str | None = setting(
        None,
        "TRIALOGUE_SYSTEM_PROMPT",
        "FIRST_PROMPT",
        help="of conversations that name none; never trimmed",
    )
    context_window: int | None = setting(
        None, "TRIALOGUE_CONTEXT_WINDOW", help="tokens of the window; unset: the model's"
    )
    max_tokens: int | None = setting(
        None, "TRIALOGUE_MAX_TOKENS", help="tokens reserved for an answer; unset: the model's"
    )
    host: str = setting(
        "127.0.0.1", "TRIALOGUE_HOST", help="address to listen on (--listen: 0.0.0.0)"
    )
    http_port: int = setting(8000, "TRIALOGUE_HTTP_PORT", help="REST, SSE, page; 0: a free one")
    grpc_port: int = setting(9000, "TRIALOGUE_GRPC_PORT", help="gRPC; 0: a free one")
    websocket_port: int = setting(9001, "TRIALOGUE_WEBSOCKET_PORT", help="websocket; 0: a free one")
    database: DatabaseUrl = setting(
        "sqlite:///trialogue.db",
        "TRIALOGUE_DATABASE",
        help="where history is kept: PATH, also as sqlite:///PATH, or postgresql://USER@HOST/DB",
    )
    node_address: str | None = setting(
        None,
        "TRIALOGUE_NODE_ADDRESS",
        help="HOST:PORT where other servers on one PostgreSQL reach our gRPC; unset: found out",
    )
    api_keys: Annotated[SecretStr | None, NoDecode] = setting(
        None,
        "TRIALOGUE_API_KEYS",
        help="who may come in: name:key or key, comma-separated",
        secret=True,
    )
    auth: Literal["on", "off"] = setting(
        "on", "TRIALOGUE_AUTH", help="'off' lets everyone in, on any address"
    )
    tls_cert: Path | None = setting(
        None, "TRIALOGUE_TLS_CERT", help="certificate chain (PEM) for all three ports"
    )
    tls_key: Path | None = setting(None, "TRIALOGUE_TLS_KEY", help="its private key (PEM)")
    allowed_origins: SentNames = setting(
        (),
        "TRIALOGUE_ALLOWED_ORIGINS",
        help="browsers' origins allowed besides our own, or *, which makes a key needed",
    )
    allowed_hosts: SentNames = setting(
        (),
        "TRIALOGUE_ALLOWED_HOSTS",
        help="Host values allowed besides our own, or *; another machine's make a key needed",
    )
    root_path: RootPath = setting(
        "", "TRIALOGUE_ROOT_PATH", help="path below which a proxy serves us, such as /chat"
    )
    forwarded_allow_ips: Networks = setting(
        ("127.0.0.1", "::1"),
        "TRIALOGUE_FORWARDED_ALLOW_IPS",
        help="proxies whose X-Forwarded-For, -Proto, -Host, -Prefix are believed; * for all, none",
    )
    max_body_bytes: ByteSize = setting(
        ByteSize(10 << 20), "TRIALOGUE_MAX_BODY_BYTES", help="of a body, message or frame"
    )
    max_upload_bytes: ByteSize = setting(
        ByteSize(512 << 20),
        "TRIALOGUE_MAX_UPLOAD_BYTES",
        help="of a file or image that is streamed through /v1, and of an import",
    )
    rate_limit: RateText | None = setting(
        None,
        "TRIALOGUE_RATE_LIMIT",
        help="60/minute: requests by key, over all wires together; also /second, /hour, /day",
    )
    token_budget: BudgetText | None = setting(
        None,
        "TRIALOGUE_TOKEN_BUDGET",
        help="100000/day or 2000000/month: tokens by key, prompts and answers together, in UTC",
    )
    max_turns: int = setting(
        10_000, "TRIALOGUE_MAX_TURNS", help="turns that run at once; the next is refused"
    )
    max_turns_per_key: int | None = setting(
        None, "TRIALOGUE_MAX_TURNS_PER_KEY", help="the same for one key"
    )
    max_connections_per_key: int | None = setting(
        None,
        "TRIALOGUE_MAX_CONNECTIONS_PER_KEY",
        help="requests, calls and websockets of one key at once, over all wires together",
    )
    max_connections_per_address: int | None = setting(
        None,
        "TRIALOGUE_MAX_CONNECTIONS_PER_ADDRESS",
        help="connections (gRPC, or by a proxy: requests) from one address at once",
    )
    upstream_timeout: float = setting(
        600.0,
        "TRIALOGUE_UPSTREAM_TIMEOUT",
        help="seconds for a whole answer; unset: 3600 of an upstream that is near",
    )
    upstream_first_byte_timeout: float = setting(
        60.0,
        "TRIALOGUE_UPSTREAM_FIRST_BYTE_TIMEOUT",
        help="seconds until an answer begins; unset: 3600 of an upstream that is near",
    )
    upstream_retries: int = setting(
        2,
        "TRIALOGUE_UPSTREAM_RETRIES",
        help="of a turn, before its answer begins; under /v1 clients try again by themselves",
    )
    drain_seconds: float = setting(
        25.0,
        "TRIALOGUE_DRAIN_SECONDS",
        help="from SIGTERM to the end; turns may go on for all but the last fifth, at most 3",
    )
    responses_days: int = setting(
        30,
        "TRIALOGUE_RESPONSES_DAYS",
        help="for so long responses of /v1 are kept that named no conversation; 0: for ever",
    )
    storage_patience: float = setting(
        300.0,
        "TRIALOGUE_STORAGE_PATIENCE",
        help="seconds that the end of an answer waits for a database that is away",
    )
    eliza_delay: float = setting(
        0.0, "TRIALOGUE_ELIZA_DELAY", help="simulated seconds a word of Eliza"
    )
    log_format: Literal["console", "json"] | None = setting(
        None, "TRIALOGUE_LOG_FORMAT", help="console or json; unset: console on a terminal"
    )
    log_level: Literal["debug", "info", "warning", "error", "off"] = setting(
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
        return init_settings, env_settings, dotenv_settings, Toml(settings_cls)

    @field_validator("auth", "log_format", "log_level", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("upstreams", "characters", "templates", "mcp", "local_options", mode="before")
    @classmethod
    def _tables(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                lists = dict.fromkeys(("upstreams", "mcp"), "a list of tables")
                what = {**lists, "local_options": "a table"}
                told = what.get(info.field_name or "", "tables by name")
                raise ValueError(f"must be {told}, as JSON") from None
        return value

    @field_validator("characters", "templates")
    @classmethod
    def _callable(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not name.strip() or not name.isprintable() or len(name) > 256:
                raise ValueError("must have names of one line, at most 256 characters")
        if len({name.casefold() for name in value}) < len(value):
            raise ValueError("must have names that are unique regardless of case")
        return value

    @field_validator("upstreams", "mcp")
    @classmethod
    def _named_apart(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
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
        "max_turns",
        "max_turns_per_key",
        "max_connections_per_key",
        "max_connections_per_address",
        "upstream_timeout",
        "upstream_first_byte_timeout",
    )
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value is not None and not 0 < value < float("inf"):
            raise ValueError("must be more than 0")
        return value

    @field_validator(
        "upstream_retries", "drain_seconds", "storage_patience", "eliza_delay", "responses_days"
    )
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if not 0 <= value < float("inf"):
            raise ValueError("must be 0 or more")
        return value

    @model_validator(mode="after")
    def _tls(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TRIALOGUE_TLS_CERT and TRIALOGUE_TLS_KEY go together")
        return self

    @property
    def on_postgres(self) -> bool:
        """Whether history is kept in a database of PostgreSQL."""
        return database.on_postgres(self.database)

    @property
    def database_path(self) -> Path:
        """SQLite's file. Raises SettingsError where history is not kept in one."""
        return database.file_of(self.database)

    @property
    def public(self) -> bool:
        """Whether others than this machine can reach us."""
        return not is_loopback(self.host)

    @property
    def exposed(self) -> bool:
        """Whether strangers may come in: by our address, by a proxy's name, or by any web page.

        A page that is named may do what its reader at this machine may: that is what it is named
        for. A host that is named is where others ask for us.
        """
        return (
            self.public
            or "*" in self.allowed_origins
            or not all(is_here(host) for host in self.allowed_hosts)
        )


def variables(field: str) -> Sequence[str]:
    """Return the environment variables of a setting, first the one to tell people of."""
    return variables_of(Settings.model_fields[field])


def load(flags: Mapping[str, Any] | None = None) -> Settings:
    """Read all settings; `flags` are by field name. Raises SettingsError, one line."""
    given = {variables(name)[0]: value for name, value in (flags or {}).items()}
    try:
        for file in (Path(ENV_FILE), Path(TOML_FILE)):
            text_of(file)  # those who read it cannot say which file it was, or pass it over
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}: {message}" if name else message) from None
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from None
