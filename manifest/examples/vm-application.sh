#!/bin/sh
# Publishes the VM Application to a gallery and assigns it to a VM and to a scale set's model. The package and the settings
# have been uploaded to a storage account before; their URLs may carry a SAS.
set -eu
group=${1:?usage: vm-application.sh GROUP GALLERY VERSION PACKAGE-URL SETTINGS-URL VM SCALE-SET}
gallery=${2:?} version=${3:?} package_url=${4:?} settings_url=${5:?} vm=${6:?} scale_set=${7:?}

az sig gallery-application create -g "$group" -r "$gallery" --application-name evenkeel --os-type Linux
az sig gallery-application version create -g "$group" -r "$gallery" --application-name evenkeel --version-name "$version" \
	--package-file-link "$package_url" --package-file-name evenkeel.sh \
	--default-file-link "$settings_url" --config-file-name evenkeel-config \
	--install-command 'sh ./evenkeel.sh install' --update-command 'sh ./evenkeel.sh update' \
	--remove-command 'sh ./evenkeel.sh remove'
id=$(az sig gallery-application version show -g "$group" -r "$gallery" --application-name evenkeel \
	--version-name "$version" --query id -o tsv)
az vm application set -g "$group" -n "$vm" --app-version-ids "$id" --treat-deployment-as-failure true
az vmss application set -g "$group" -n "$scale_set" --app-version-ids "$id" --treat-deployment-as-failure true
