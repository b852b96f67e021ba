// A VM with a user-assigned identity and EvenKeel as a VM extension that upgrades itself. The identity has got its roles
// (Key Vault Secrets User on the vault, Storage Blob Data Reader on the container) before: a VM of its own identity would
// have to exist first.
param location string = resourceGroup().location
param vmName string
param identityName string
@secure()
param protectedSettings object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

resource vm 'Microsoft.Compute/virtualMachines@2024-07-01' existing = {
  name: vmName
}

resource evenkeel 'Microsoft.Compute/virtualMachines/extensions@2024-07-01' = {
  parent: vm
  name: 'EvenKeelForLinux'
  location: location
  properties: {
    publisher: 'EvenKeel'
    type: 'EvenKeelForLinux'
    typeHandlerVersion: '0.1'
    autoUpgradeMinorVersion: true
    enableAutomaticUpgrade: true
    settings: loadJsonContent('settings.json')
    protectedSettings: protectedSettings
  }
}

output principalId string = identity.properties.principalId
