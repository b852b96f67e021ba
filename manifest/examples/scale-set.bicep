// A scale set, uniform or flexible, behind a load balancer that probes /ready: EvenKeel first, whatever needs its
// certificates and scripts after it, the Application Health extension on /app-health, rolling upgrades by it, and a
// notification before an instance is deleted.
@allowed(['Uniform', 'Flexible'])
param orchestrationMode string = 'Uniform'
param location string = resourceGroup().location
param name string = 'web'
param instances int = 3
param subnetId string
param identityId string
param adminUserName string = 'azureuser'
param adminPublicKey string
@secure()
param protectedSettings object

var publisher = 'EvenKeel'
var type = 'EvenKeelForLinux'

resource balancer 'Microsoft.Network/loadBalancers@2024-05-01' = {
  name: '${name}-balancer'
  location: location
  sku: { name: 'Standard' }
  properties: {
    frontendIPConfigurations: [
      { name: 'front', properties: { subnet: { id: subnetId } } }
    ]
    backendAddressPools: [
      { name: 'back' }
    ]
    probes: [
      // settings.json says the same under health.loadBalancerProbe: probeDown waits for it.
      {
        name: 'ready'
        properties: {
          protocol: 'Http'
          port: 8008
          requestPath: '/ready'
          intervalInSeconds: 5
          probeThreshold: 2
        }
      }
    ]
    loadBalancingRules: [
      {
        name: 'shop'
        properties: {
          protocol: 'Tcp'
          frontendPort: 80
          backendPort: 8080
          idleTimeoutInMinutes: 4
          enableTcpReset: true
          frontendIPConfiguration: {
            id: resourceId('Microsoft.Network/loadBalancers/frontendIPConfigurations', '${name}-balancer', 'front')
          }
          backendAddressPool: {
            id: resourceId('Microsoft.Network/loadBalancers/backendAddressPools', '${name}-balancer', 'back')
          }
          probe: { id: resourceId('Microsoft.Network/loadBalancers/probes', '${name}-balancer', 'ready') }
        }
      }
    ]
  }
}

resource scaleSet 'Microsoft.Compute/virtualMachineScaleSets@2024-07-01' = {
  name: name
  location: location
  sku: { name: 'Standard_D2s_v5', capacity: instances }
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    orchestrationMode: orchestrationMode
    platformFaultDomainCount: 1
    // A uniform set makes more instances than are wanted and deletes some again: scripts would run there, too.
    overprovision: orchestrationMode == 'Uniform' ? false : null
    // In batches, by what the Application Health extension says; an instance where a script or a drain runs is passed over.
    upgradePolicy: {
      mode: 'Rolling'
      rollingUpgradePolicy: {
        maxBatchInstancePercent: 20
        maxUnhealthyInstancePercent: 20
        maxUnhealthyUpgradedInstancePercent: 20
        pauseTimeBetweenBatches: 'PT0S'
      }
    }
    virtualMachineProfile: {
      osProfile: {
        computerNamePrefix: name
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
      networkProfile: {
        networkApiVersion: orchestrationMode == 'Flexible' ? '2022-11-01' : null
        networkInterfaceConfigurations: [
          {
            name: 'nic'
            properties: {
              primary: true
              ipConfigurations: [
                {
                  name: 'ip'
                  properties: {
                    subnet: { id: subnetId }
                    loadBalancerBackendAddressPools: [{ id: balancer.properties.backendAddressPools[0].id }]
                  }
                }
              ]
            }
          }
        ]
      }
      // Five minutes before an instance is deleted, as an event of type Terminate.
      scheduledEventsProfile: {
        terminateNotificationProfile: { enable: true, notBeforeTimeout: 'PT5M' }
      }
      extensionProfile: {
        extensionsTimeBudget: 'PT1H30M'
        extensions: [
          {
            name: 'EvenKeelForLinux'
            properties: {
              publisher: publisher
              type: type
              typeHandlerVersion: '0.1'
              autoUpgradeMinorVersion: true
              enableAutomaticUpgrade: true
              settings: loadJsonContent('settings.json')
              protectedSettings: protectedSettings
            }
          }
          {
            name: 'HealthExtension'
            properties: {
              publisher: 'Microsoft.ManagedServices'
              type: 'ApplicationHealthLinux'
              typeHandlerVersion: '2.0'
              autoUpgradeMinorVersion: true
              enableAutomaticUpgrade: true
              provisionAfterExtensions: ['EvenKeelForLinux']
              settings: {
                protocol: 'http'
                port: 8008
                requestPath: '/app-health'
                intervalInSeconds: 5
                numberOfProbes: 2
                gracePeriod: 600
              }
            }
          }
        ]
      }
    }
  }
}
