# A VM with a user-assigned identity and EvenKeel as an extension that upgrades itself. Identity, its roles, and the network
# interface stand elsewhere.
variable "resource_group" {
  type = string
}

variable "location" {
  type = string
}

variable "network_interface_id" {
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

resource "azurerm_linux_virtual_machine" "web" {
  name                  = "web-0"
  resource_group_name   = var.resource_group
  location              = var.location
  size                  = "Standard_D2s_v5"
  network_interface_ids = [var.network_interface_id]
  admin_username        = "azureuser"

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
}

resource "azurerm_virtual_machine_extension" "evenkeel" {
  name                       = "EvenKeelForLinux"
  virtual_machine_id         = azurerm_linux_virtual_machine.web.id
  publisher                  = "EvenKeel"
  type                       = "EvenKeelForLinux"
  type_handler_version       = "0.1"
  auto_upgrade_minor_version = true
  automatic_upgrade_enabled  = true
  settings                   = file("${path.module}/settings.json")
  protected_settings         = jsonencode({ secrets = { databaseUrl = var.database_url } })
}
