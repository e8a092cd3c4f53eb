"""The studies that come with evalsuite: a TOML file each, named here and registered in ``pyproject.toml``."""

from pathlib import Path

_here = Path(__file__).parent

ablation = _here / "ablation.toml"
adaptation = _here / "adaptation.toml"
adapters = _here / "adapters.toml"
audit_full = _here / "audit_full.toml"
audit_quick = _here / "audit_quick.toml"
audit_standard = _here / "audit_standard.toml"
cifar10 = _here / "cifar10.toml"
continual = _here / "continual.toml"
engines = _here / "engines.toml"
formats = _here / "formats.toml"
quick = _here / "quick.toml"
reliability = _here / "reliability.toml"
reliability_cifar10 = _here / "reliability_cifar10.toml"
reliability_small = _here / "reliability_small.toml"
shift = _here / "shift.toml"
ttaq = _here / "ttaq.toml"
ttaq_hosts = _here / "ttaq_hosts.toml"
zoa = _here / "zoa.toml"
zoa_foa = _here / "zoa_foa.toml"
zoa_rounds = _here / "zoa_rounds.toml"
zoa_transformer = _here / "zoa_transformer.toml"
