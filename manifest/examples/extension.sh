#!/bin/sh
# The extension on a VM and on a scale set, with the az command line. Run beside settings.json and protected.json.
set -eu
group=${1:?usage: extension.sh GROUP VM SCALE-SET}
vm=${2:?usage: extension.sh GROUP VM SCALE-SET}
scale_set=${3:?usage: extension.sh GROUP VM SCALE-SET}
cd "$(dirname "$0")"

az vm extension set -g "$group" --vm-name "$vm" \
	--publisher EvenKeel --name EvenKeelForLinux --version 0.1 --enable-auto-upgrade true \
	--settings settings.json --protected-settings protected.json

az vmss extension set -g "$group" --vmss-name "$scale_set" \
	--publisher EvenKeel --name EvenKeelForLinux --version 0.1 --enable-auto-upgrade true \
	--settings settings.json --protected-settings protected.json
# Others start when it has succeeded on the instance.
az vmss extension set -g "$group" --vmss-name "$scale_set" \
	--publisher Microsoft.ManagedServices --name ApplicationHealthLinux --version 2.0 --enable-auto-upgrade true \
	--provision-after-extensions EvenKeelForLinux \
	--settings '{"protocol": "http", "port": 8008, "requestPath": "/app-health", "intervalInSeconds": 5, "numberOfProbes": 2, "gracePeriod": 600}'
# An event of type Terminate, five minutes before an instance is deleted.
az vmss update -g "$group" -n "$scale_set" --enable-terminate-notification true --terminate-notification-time 5
