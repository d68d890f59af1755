"""The settings of metrics and traces. Those that begin with `OTEL_` are OpenTelemetry's own: its SDK reads them from
the environment. They are looked at here first, for in place of a value that it can't use the SDK takes another one."""

import os
import re
from ipaddress import IPv4Address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, IPvAnyAddress, SecretStr
from pydantic_settings import DotEnvSettingsSource, SettingsConfigDict

from app.settings import PROJECT, EnvSettings

OTEL = "OTEL_"
HEADER = r"\s*[!#$%&'*+.^_`|~\w-]+\s*=[ !#-+\--:<-\[\]-~]*"


def _are_headers(headers: SecretStr) -> SecretStr:
    """As the SDK takes them. It would write one that it does not take into the log: with a key, perhaps."""
    if not all(re.fullmatch(HEADER, each, re.ASCII) for each in headers.get_secret_value().split(",") if each.strip()):
        raise ValueError("must be name=value,name=value, with %2C for a comma and %3B for a semicolon in a value")
    return headers


def _are_attributes(attributes: str) -> str:
    if not all(re.match("[^=]*[^=\\s][^=]*=", each) for each in attributes.split(",")):
        raise ValueError("must be name=value,name=value, with %2C for a comma in a value")
    return attributes


def _is_url(url: str) -> str:
    try:
        fits = re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", url) and urlsplit(url).port != 0
    except ValueError:  # of a host or a port; what it says may quote a key
        fits = False
    if not fits:
        raise ValueError("must be a URL such as http://localhost:4318")
    return url


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Headers = Annotated[SecretStr, AfterValidator(_are_headers)]
Url = Annotated[str, AfterValidator(_is_url)]
Protocol = Literal["http/protobuf"]
Compression = Annotated[Literal["none", "gzip", "deflate"], BeforeValidator(_lower)]
Flag = Annotated[Literal["true", "false"], BeforeValidator(_lower)]  # OpenTelemetry knows no other words
Exporter = Annotated[Literal["otlp", "none"], BeforeValidator(_lower)]
Sampler = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]


class TelemetrySettings(EnvSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)  # as OpenTelemetry says of its own

    app_name: str = PROJECT
    metrics: Literal["none", "prometheus"] = "none"
    metrics_port: int = Field(0, ge=0, le=65535)
    metrics_host: IPvAnyAddress = IPv4Address("127.0.0.1")

    otel_sdk_disabled: bool = False
    otel_service_name: str | None = Field(None, max_length=200)
    otel_resource_attributes: Annotated[str, AfterValidator(_are_attributes)] | None = None
    otel_exporter_otlp_endpoint: Url | None = None
    otel_exporter_otlp_traces_endpoint: Url | None = None
    otel_exporter_otlp_metrics_endpoint: Url | None = None
    otel_exporter_otlp_headers: Headers | None = None
    otel_exporter_otlp_traces_headers: Headers | None = None
    otel_exporter_otlp_metrics_headers: Headers | None = None
    otel_exporter_otlp_protocol: Protocol = "http/protobuf"
    otel_exporter_otlp_traces_protocol: Protocol | None = None
    otel_exporter_otlp_metrics_protocol: Protocol | None = None
    otel_exporter_otlp_compression: Compression = "none"
    otel_exporter_otlp_traces_compression: Compression | None = None
    otel_exporter_otlp_metrics_compression: Compression | None = None
    otel_exporter_otlp_timeout: float = Field(10, gt=0, le=600)  # in seconds
    otel_exporter_otlp_traces_timeout: float | None = Field(None, gt=0, le=600)
    otel_exporter_otlp_metrics_timeout: float | None = Field(None, gt=0, le=600)
    otel_exporter_otlp_certificate: FilePath | None = None
    otel_exporter_otlp_client_certificate: FilePath | None = None
    otel_exporter_otlp_client_key: FilePath | None = None
    otel_traces_exporter: Exporter = "otlp"
    otel_traces_sampler: Sampler = "parentbased_always_on"
    otel_traces_sampler_arg: float = Field(1, ge=0, le=1)
    otel_bsp_max_queue_size: int = Field(2048, gt=0, le=100_000)  # in spans
    otel_bsp_max_export_batch_size: int = Field(512, gt=0, le=100_000)
    otel_bsp_schedule_delay: int = Field(5000, gt=0, le=600_000)  # in milliseconds
    otel_metrics_exporter: Exporter = "otlp"
    otel_metric_export_interval: int = Field(60_000, gt=0, le=3_600_000)  # in milliseconds
    otel_metric_export_timeout: int = Field(30_000, gt=0, le=3_600_000)
    otel_instrumentation_genai_capture_message_content: Flag = "false"

    @classmethod
    def read(cls) -> Self:
        """Puts those of OpenTelemetry where its SDK looks: into the environment, from `.env` too. An empty one it would
        take for a wrong value, so that is taken out. Raises SystemExit if settings are wrong."""
        settings = super().read()
        lines = {name.upper(): value for name, value in DotEnvSettingsSource(cls).env_vars.items()}
        for name in filter(lambda name: name.startswith(OTEL), lines | os.environ):
            if value := (os.environ.pop(name, "").strip() or lines.get(name) or "").strip():
                os.environ[name] = value
        return settings

    @property
    def exports_traces(self) -> bool:
        there = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
        return bool(there) and self.otel_traces_exporter == "otlp" and not self.otel_sdk_disabled

    @property
    def exports_metrics(self) -> bool:
        there = self.otel_exporter_otlp_metrics_endpoint or self.otel_exporter_otlp_endpoint
        return bool(there) and self.otel_metrics_exporter == "otlp" and not self.otel_sdk_disabled

    @property
    def is_scraped(self) -> bool:
        """Whether Prometheus fetches the metrics."""
        return self.metrics == "prometheus" and not self.otel_sdk_disabled

    @property
    def has_a_service_name(self) -> bool:
        named = re.search(r"(^|,)\s*service\.name\s*=", self.otel_resource_attributes or "")
        return bool(self.otel_service_name or named)
