# A uniform scale set's extensions: EvenKeel, and the Application Health extension that asks it. Terraform waits until the
# first has succeeded (provision_after_extensions does the same on each instance).
variable "virtual_machine_scale_set_id" {
  type = string
}

variable "database_url" {
  type      = string
  sensitive = true
}

resource "azurerm_virtual_machine_scale_set_extension" "evenkeel" {
  name                         = "EvenKeelForLinux"
  virtual_machine_scale_set_id = var.virtual_machine_scale_set_id
  publisher                    = "EvenKeel"
  type                         = "EvenKeelForLinux"
  type_handler_version         = "0.1"
  auto_upgrade_minor_version   = true
  automatic_upgrade_enabled    = true
  settings                     = file("${path.module}/settings.json")
  protected_settings           = jsonencode({ secrets = { databaseUrl = var.database_url } })
}

resource "azurerm_virtual_machine_scale_set_extension" "health" {
  name                         = "HealthExtension"
  virtual_machine_scale_set_id = var.virtual_machine_scale_set_id
  publisher                    = "Microsoft.ManagedServices"
  type                         = "ApplicationHealthLinux"
  type_handler_version         = "2.0"
  auto_upgrade_minor_version   = true
  automatic_upgrade_enabled    = true
  provision_after_extensions   = [azurerm_virtual_machine_scale_set_extension.evenkeel.name]
  settings = jsonencode({
    protocol          = "http"
    port              = 8008
    requestPath       = "/app-health"
    intervalInSeconds = 5
    numberOfProbes    = 2
    gracePeriod       = 600
  })
}
