# A uniform scale set behind a load balancer that probes /ready: EvenKeel first, the Application Health extension on
# /app-health after it, rolling upgrades by that, and a notification before an instance is deleted. Network and identity stand
# elsewhere. (The extensions are in the set, not resources of their own: a set of rolling upgrades must be made with one that
# tells its health.)
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

resource "azurerm_linux_virtual_machine_scale_set" "web" {
  name                = "web"
  resource_group_name = var.resource_group
  location            = var.location
  sku                 = "Standard_D2s_v5"
  instances           = 3
  admin_username      = "azureuser"
  depends_on          = [azurerm_lb_probe.ready]

  # Otherwise more instances are made than are wanted, and some deleted again: scripts would run there, too.
  overprovision = false

  admin_ssh_key {
    username   = "azureuser"
    public_key = var.admin_public_key
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

    auto_upgrade_minor_version = true
    automatic_upgrade_enabled  = true

    settings           = file("${path.module}/settings.json")
    protected_settings = jsonencode({ secrets = { databaseUrl = var.database_url } })
  }

  extension {
    name                 = "HealthExtension"
    publisher            = "Microsoft.ManagedServices"
    type                 = "ApplicationHealthLinux"
    type_handler_version = "2.0"

    auto_upgrade_minor_version = true
    automatic_upgrade_enabled  = true
    provision_after_extensions = ["EvenKeelForLinux"]

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
