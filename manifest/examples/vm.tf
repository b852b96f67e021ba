# A VM's extension, with automatic upgrade. The VM and its identity stand elsewhere.
variable "virtual_machine_id" {
  type = string
}

variable "database_url" {
  type      = string
  sensitive = true
}

resource "azurerm_virtual_machine_extension" "evenkeel" {
  name                       = "EvenKeelForLinux"
  virtual_machine_id         = var.virtual_machine_id
  publisher                  = "EvenKeel"
  type                       = "EvenKeelForLinux"
  type_handler_version       = "0.1"
  auto_upgrade_minor_version = true
  automatic_upgrade_enabled  = true
  settings                   = file("${path.module}/settings.json")
  protected_settings         = jsonencode({ secrets = { databaseUrl = var.database_url } })
}
