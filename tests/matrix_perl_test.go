package tests

import "regexp"

func matrixPerl() []matrixRow {
	return []matrixRow{
		scriptRow(matrixRow{
			client: "Perl LWP", needs: []string{"perl"},
			version:  []string{"perl", "-MLWP::UserAgent", "-MLWP::Protocol::https", "-e", `print "$LWP::UserAgent::VERSION\n"`},
			distrust: regexp.MustCompile(`certificate verify failed`),
		}, "get.pl", `use LWP::UserAgent; my $r = LWP::UserAgent->new->get($ARGV[0]); die $r->status_line, "\n" unless $r->is_success; print $r->decoded_content;`, "perl"),
	}
}
