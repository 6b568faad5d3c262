use strict;
use warnings;
use lib 'lib';
use Csv;
require './tests/tap.pl';

sub rows { join '|', map { join ';', @$_ } Csv::parse($_[0]) }

sub csvcut {
    my ($text, @columns) = @_;
    open(my $in, '>', 'tests/in.csv') or die "tests/in.csv: $!";
    print $in $text;
    close $in;
    my $output = `perl csvcut @columns < tests/in.csv 2>&1`;
    unlink 'tests/in.csv';
    return $output;
}

is(rows("a,b,c\n"), 'a;b;c', 'plain fields');
is(rows("a,,c,\n"), 'a;;c;', 'empty fields');
is(rows(qq(a,"b",c\n)), 'a;b;c', 'quoted field');
is(rows("a,b\r\nc,d\r\n"), 'a;b|c;d', 'several rows');
is(rows(qq(Ada,"12 Mill Lane, Ely",36\n)), 'Ada;12 Mill Lane, Ely;36', 'comma inside quotes');
is(rows(qq("say ""hi""",2\n)), 'say "hi";2', 'doubled quote');
is(rows(qq(a,"b\nc",d\ne,f,g\n)), "a;b\nc;d|e;f;g", 'line break inside quotes');
is(csvcut("x,y,z\n1,2,3\n", 'z', 'x'), "z,x\n3,1\n", 'csvcut picks columns');
is(csvcut("x,y\n1,2\n", 'q'), "csvcut: no column 'q'\n", 'csvcut knows unknown columns');
is(csvcut(qq(x,y\n"1, ""2""",3\n), 'x'), qq(x\n"1, ""2"""\n), 'csvcut keeps quotes where needed');
done_testing();
