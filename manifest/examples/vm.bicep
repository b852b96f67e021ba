// A VM with a user-assigned identity and EvenKeel as a VM extension that upgrades itself. The identity has got its roles
// before (Key Vault Secrets User on the vault, Storage Blob Data Reader on the container): a VM's own identity would not
// exist yet when the extension asks with it.
param location string = resourceGroup().location
param vmName string
param identityName string
param subnetId string
param adminUserName string = 'azureuser'
param adminPublicKey string
@secure()
param protectedSettings object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

resource nic 'Microsoft.Network/networkInterfaces@2024-05-01' = {
  name: '${vmName}-nic'
  location: location
  properties: {
    ipConfigurations: [
      { name: 'ip', properties: { subnet: { id: subnetId }, privateIPAllocationMethod: 'Dynamic' } }
    ]
  }
}

resource vm 'Microsoft.Compute/virtualMachines@2024-07-01' = {
  name: vmName
  location: location
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
  properties: {
    hardwareProfile: { vmSize: 'Standard_D2s_v5' }
    osProfile: {
      computerName: vmName
      adminUsername: adminUserName
      linuxConfiguration: {
        disablePasswordAuthentication: true
        ssh: { publicKeys: [{ path: '/home/${adminUserName}/.ssh/authorized_keys', keyData: adminPublicKey }] }
      }
    }
    storageProfile: {
      imageReference: { publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' }
      osDisk: { createOption: 'FromImage', managedDisk: { storageAccountType: 'StandardSSD_LRS' } }
    }
    networkProfile: { networkInterfaces: [{ id: nic.id }] }
  }
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
