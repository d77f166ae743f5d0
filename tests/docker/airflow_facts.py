"""Tells what Airflow's options are and whether its commands parse: run in a process of its own.

python airflow_facts.py COMMANDS.json FACTS.json
"""

import json
import sys
from pathlib import Path

from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager

ProvidersManager().initialize_providers_configuration()
parser = get_parser()
refused = []
for command in json.loads(Path(sys.argv[1]).read_text()):
    try:
        parser.parse_args(command)
    except SystemExit:
        refused.append(command)
options = {section: sorted(facts["options"]) for section, facts in conf.configuration_description.items()}
ports = {
    "api": conf.getint("api", "port"),
    "scheduler": conf.getint("scheduler", "scheduler_health_check_server_port"),
    "logs": conf.getint("logging", "worker_log_server_port"),
}
facts = {"options": options, "refused": refused, "ports": ports, "queue": conf.get("operators", "default_queue")}
Path(sys.argv[2]).write_text(json.dumps(facts))
