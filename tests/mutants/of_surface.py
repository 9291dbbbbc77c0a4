"""Mistakes in what looks at a machine, and in settings that are shown."""

from tests.mutants.mutant import Mutant

EXAMINE, CGROUPS, LISTING = "ssl_cli/doctor/examine.py", "ssl_cli/cgroups.py", "ssl_cli/config/listing.py"
COMMAND = "ssl_cli/commands/config.py"
DOCTOR_TESTS, CONFIG_TESTS = ("tests/doctor/test_examine.py",), ("tests/cli/test_config.py",)

MUTANTS = [
    Mutant(None, "half-of-a-launcher-is-fine", EXAMINE, "if size > 1 and missing:", "if False:", DOCTOR_TESTS),
    Mutant(None, "packages-of-extras-are-needed", EXAMINE, 'if "extra ==" in line:', "if False:", DOCTOR_TESTS),
    Mutant(
        None,
        "the-loosest-group-bounds-the-cores",
        CGROUPS,
        "    return min(found, default=None)\n\n\ndef oom_kills",
        "    return max(found, default=None)\n\n\ndef oom_kills",
        DOCTOR_TESTS,
    ),
    Mutant(None, "a-file-of-settings-is-replaced", COMMAND, "if not force and (", "if False and (", CONFIG_TESTS),
    Mutant(None, "a-new-file-sets-everything", LISTING, 'mark = "" if', 'mark = "" if True or', CONFIG_TESTS),
    Mutant(
        None, "every-origin-is-the-default", LISTING, 'settled.origins.get(key, "default")', '"default"', CONFIG_TESTS
    ),
]
