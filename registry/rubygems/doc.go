// Package rubygems reads the compact index of gems
// (https://guides.rubygems.org/rubygems-org-compact-index-api/).
package rubygems
