#!/bin/sh
# The extension on a VM and on a scale set (uniform or flexible), with the az command line. Run beside settings.json and
# protected.json. IDENTITY is the resource id of a user-assigned identity, which has got its roles before.
set -eu
group=${1:?usage: extension.sh GROUP VM SCALE-SET IDENTITY LOAD-BALANCER}
vm=${2:?} scale_set=${3:?} identity=${4:?} balancer=${5:?}
cd "$(dirname "$0")"

az vm identity assign -g "$group" -n "$vm" --identities "$identity"
az vm extension set -g "$group" --vm-name "$vm" \
	--publisher EvenKeel --name EvenKeelForLinux --version 0.1 --enable-auto-upgrade true \
	--settings settings.json --protected-settings protected.json

az vmss identity assign -g "$group" -n "$scale_set" --identities "$identity"
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
# Instances that are there already take over the model; only sets whose upgrade policy is manual need to be told.
az vmss update-instances -g "$group" -n "$scale_set" --instance-ids '*'

# For the load balancer's rule; settings.json says the same under health.loadBalancerProbe.
az network lb probe create -g "$group" --lb-name "$balancer" -n ready --protocol Http --port 8008 --path /ready \
	--interval 5 --probe-threshold 2
