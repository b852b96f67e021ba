# A flexible scale set, otherwise as scale-set.tf. Its extension blocks have no automatic_upgrade_enabled: switch that on in the
# portal, or with az vmss extension set --enable-auto-upgrade true.
variable "resource_group" {
  type = string
}

variable "location" {
  type = string
}

variable "subnet_id" {
  type = string
}

variable "load_balancer_id" {
  type = string
}

variable "backend_pool_id" {
  type = string
}

variable "identity_id" {
  type = string
}

variable "admin_public_key" {
  type = string
}

variable "database_url" {
  type      = string
  sensitive = true
}

# For the rule of the load balancer. settings.json says the same under health.loadBalancerProbe: probeDown waits for it.
resource "azurerm_lb_probe" "ready" {
  name                = "ready"
  loadbalancer_id     = var.load_balancer_id
  protocol            = "Http"
  port                = 8008
  request_path        = "/ready"
  interval_in_seconds = 5
  probe_threshold     = 2
}

resource "azurerm_orchestrated_virtual_machine_scale_set" "web" {
  name                        = "web"
  resource_group_name         = var.resource_group
  location                    = var.location
  platform_fault_domain_count = 1
  sku_name                    = "Standard_D2s_v5"
  instances                   = 3
  network_api_version         = "2022-11-01"
  depends_on                  = [azurerm_lb_probe.ready]

  os_profile {
    linux_configuration {
      admin_username = "azureuser"

      admin_ssh_key {
        username   = "azureuser"
        public_key = var.admin_public_key
      }
    }
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity_id]
  }

  source_image_reference {
    publisher = "Debian"
    offer     = "debian-12"
    sku       = "12-gen2"
    version   = "latest"
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "StandardSSD_LRS"
  }

  network_interface {
    name    = "nic"
    primary = true

    ip_configuration {
      name                                   = "ip"
      primary                                = true
      subnet_id                              = var.subnet_id
      load_balancer_backend_address_pool_ids = [var.backend_pool_id]
    }
  }

  # In batches, by what the Application Health extension says; an instance where a script or a drain runs is passed over.
  upgrade_mode = "Rolling"
  rolling_upgrade_policy {
    max_batch_instance_percent              = 20
    max_unhealthy_instance_percent          = 20
    max_unhealthy_upgraded_instance_percent = 20
    pause_time_between_batches              = "PT0S"
  }

  # Five minutes before an instance is deleted, as an event of type Terminate.
  termination_notification {
    enabled = true
    timeout = "PT5M"
  }

  extensions_time_budget = "PT1H30M"
  extension {
    name                 = "EvenKeelForLinux"
    publisher            = "EvenKeel"
    type                 = "EvenKeelForLinux"
    type_handler_version = "0.1"

    auto_upgrade_minor_version_enabled = true

    settings           = file("${path.module}/settings.json")
    protected_settings = jsonencode({ secrets = { databaseUrl = var.database_url } })
  }

  extension {
    name                 = "HealthExtension"
    publisher            = "Microsoft.ManagedServices"
    type                 = "ApplicationHealthLinux"
    type_handler_version = "2.0"

    auto_upgrade_minor_version_enabled        = true
    extensions_to_provision_after_vm_creation = ["EvenKeelForLinux"]

    settings = jsonencode({
      protocol          = "http"
      port              = 8008
      requestPath       = "/app-health"
      intervalInSeconds = 5
      numberOfProbes    = 2
      gracePeriod       = 600
    })
  }
}
