// Package rpm reads the metadata of RPM repositories: repomd.xml and the list of
// packages that it names, primary.xml (https://rpm-software-management.github.io/createrepo_c/).
package rpm
