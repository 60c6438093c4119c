// Package nix reads what binary caches of Nix say of their archives: .narinfo files.
package nix
