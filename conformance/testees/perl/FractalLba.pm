# What signing a record needs, after spec/canonical.md: this is the implementation that
# testee.pl puts to the test.
#
# Texts are bytes of UTF-8 all the way. A value of JSON is a pair of its kind and what it holds:
# n (a number: its token), d (a double), s (a string: its bytes), l (a literal), a (an array),
# o (an object). A refusal dies with a code of spec/errors.json and a message.
package FractalLba;
use v5.36;
use Digest::SHA  qw(hmac_sha256 sha256 sha256_hex);
use MIME::Base64 qw(encode_base64);
use POSIX        ();

# POSIX::strtod is the C library's, which rounds rightly, and follows the locale's decimal point.
POSIX::setlocale(POSIX::LC_ALL(), 'C');

my $TEXT_BYTES_MAX  = 65_536;              # canonical 3.9(1): a JSON text
my $DEPTH_MAX       = 32;                  # canonical 3.9(2): nested containers
my $INTEGER_MAX     = 9007199254740991;    # canonical 3.1, 4.4: the epoch, any integer token
my $SHARD_BYTES_MAX = 256;                 # canonical 3.1: shard_id in UTF-8
my $KEY_BYTES_MIN   = 32;                  # canonical 3.6(4): an HMAC key
my %FLOAT_MAX       = (D_hat => 3.5, budget => 1, coh_star => 1.05, r => 1);    # canonical 3.1
my @SIGNED          = qw(D_hat budget coh_star epoch merkle_root pcs_id r shard_id);
my @NO_CONTENT      = qw(attempt sent_at ft sig sig_v alg kid tenant_id);       # canonical 5.1
my %ESCAPES         = ("\b" => 'b', "\t" => 't', "\n" => 'n', "\f" => 'f', "\r" => 'r');
my %MEANT           = reverse %ESCAPES;
my $SPACE           = qr/[ \t\n\r]*/;
my $CHARACTERS      = qr{(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+};
my $NUMBER          = qr/-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/;

sub refuse ($code, $message) { die {code => $code, message => $message} }

# --- canonical 3.2: numbers -------------------------------------------------------------------

sub double_of ($token) { return scalar POSIX::strtod($token) }

sub nano ($member, $x) {
    refuse('number_not_finite', "$member: expected a finite number, got $x") if $x - $x != 0;
    my $max = $FLOAT_MAX{$member};
    refuse('number_out_of_range', "$member: expected 0 to $max, got $x") if $x < 0 || $x > $max;
    my $p = $x * 1e9;
    my $n = POSIX::floor($p);
    return $p - $n >= 0.5 ? $n + 1 : $n;
}

# The fewest digits that read back as a double above 0, and the exponent of the first.
sub shortest ($x) {
    for my $more (0 .. 16) {
        my ($digits, $e) = sprintf("%.${more}e", $x) =~ /^(.*)e(.*)$/;
        $digits =~ tr/.//d;
        # Beside a power of two the nearest digits may fail where the next ones above read back.
        for my $try ($digits, $digits + 1) {
            return ($try, $e) if double_of("${try}e" . ($e - $more)) == $x;
        }
    }
}

# The text of ECMAScript.
sub number_text ($x) {
    return '0' if $x == 0;
    my ($digits, $e) = shortest(abs $x);
    my $sign = $x < 0 ? '-' : '';
    return $sign . $digits =~ s/^(.)(?=.)/$1./r . sprintf 'e%+d', $e if $e < -6 || $e > 20;
    $digits = '0' x -$e . $digits if $e < 0;
    my $point = $e < 0 ? 1 : $e + 1;
    $digits .= '0' x ($point - length $digits) if length $digits < $point;
    return $sign . $digits =~ s/^(.{$point})(?=.)/$1./r;
}

# --- canonical 3.4: strings -------------------------------------------------------------------

sub from_utf16 ($hex) {
    my ($text, $end) = ('', 0);
    while ($hex =~ /\G(?:(d[89ab]..)(d[c-f]..)|((?!d[89a-f])....))/gi) {
        $text .= chr($3 ? hex $3 : 0x10000 + ((hex($1) - 0xd800) << 10) + hex($2) - 0xdc00);
        $end = pos $hex;
    }
    refuse('string_surrogate', "unpaired surrogate at hex digit $end") if $end < length $hex;
    utf8::encode($text);
    return $text;
}

sub quoted ($text) {
    $text =~ s/(["\\])/\\$1/g;
    $text =~ s/([\x00-\x1f])/'\\' . ($ESCAPES{$1} || sprintf 'u%04x', ord $1)/ge;
    return qq("$text");
}

sub check_shard_id ($text) {
    my $length = length $text;
    refuse('string_length', "shard_id: expected 1 to $SHARD_BYTES_MAX bytes, got $length")
        if $length < 1 || $length > $SHARD_BYTES_MAX;
}

# --- canonical 3.9, 4: JSON text, and RFC 8785 ------------------------------------------------

sub malformed ($at) { refuse('json_malformed', "not JSON at byte $at") }

sub unescaped ($text) {
    return $text =~ s{((?:\\u.{4})+)|\\(.)}{$1 ? from_utf16($1 =~ s/\\u//gr) : $MEANT{$2} || $2}ger;
}

# Read the value at pos($$text).
sub value ($text, $depth) {
    $$text =~ /\G$SPACE/gc;
    return ['s', unescaped($1)] if $$text =~ /\G"($CHARACTERS)"/gc;
    return ['n', $1] if $$text =~ /\G($NUMBER)/gc;
    return ['l', $1] if $$text =~ /\G(true|false|null)/gc;
    malformed(pos $$text) if $$text !~ /\G([\[{])/gc;
    refuse('json_limit', "more than $DEPTH_MAX containers in each other") if $depth == $DEPTH_MAX;
    my ($is_object, $end, @items, %members) = $1 eq '{' ? (1, qr/\}/) : (0, qr/\]/);
    my $more = $$text !~ /\G$SPACE$end/gc;
    while ($more) {
        push @items, value($text, $depth + 1);
        if ($is_object) {
            my ($kind, $name) = @{pop @items};
            malformed(pos $$text) if $kind ne 's' || $$text !~ /\G$SPACE:/gc;
            refuse('member_duplicate', "$name is there twice") if $members{$name};
            $members{$name} = value($text, $depth + 1);
        }
        $more = $$text =~ /\G$SPACE,/gc;
        malformed(pos $$text) if !$more && $$text !~ /\G$SPACE$end/gc;
    }
    return $is_object ? ['o', \%members] : ['a', \@items];
}

sub parse ($text) {
    my $length = length $text;
    refuse('payload_too_large', "$length bytes") if $length > $TEXT_BYTES_MAX;
    my $is_utf8 = utf8::decode(my $points = $text);
    malformed('?') if !$is_utf8 || $points =~ /[^\x{0}-\x{d7ff}\x{e000}-\x{10ffff}]/;
    pos($text) = 0;
    my ($kind, $record) = @{value(\$text, 0)};
    malformed(pos $text) if $kind ne 'o' || $text !~ /\G$SPACE\z/gc;
    return $record;
}

sub jcs ($value) {
    my ($kind, $held) = @$value;
    return $held if $kind eq 'l';
    return quoted($held) if $kind eq 's';
    return '[' . join(',', map { jcs($_) } @$held) . ']' if $kind eq 'a';
    if ($kind eq 'o') {    # Names are in the order of UTF-16: U+E000 to U+FFFF come last.
        my %key = map { $_ => tr/\xee\xef/\xfe\xff/r } keys %$held;
        my @names = sort { $key{$a} cmp $key{$b} } keys %$held;
        return '{' . join(',', map { quoted($_) . ':' . jcs($held->{$_}) } @names) . '}';
    }
    my $x = $kind eq 'd' ? $held : double_of($held);
    my $is_integer = $kind eq 'n' && $held !~ /[.eE]/;
    refuse('number_out_of_range', "$held: not a finite double, or an integer beyond 2^53 - 1")
        if $x - $x != 0 || ($is_integer && abs $x > $INTEGER_MAX);
    return number_text($x);
}

# --- canonical 3, 4, 5: records ---------------------------------------------------------------

# Give the eight signed members, the floats rounded.
sub signed_members ($record) {
    my %signed;
    for my $name (@SIGNED) {
        my ($kind, $held) = @{$record->{$name} || refuse('member_missing', $name)};
        my $expected = exists $FLOAT_MAX{$name} ? 'nd' : $name eq 'epoch' ? 'n' : 's';
        refuse('member_type', $name) if index($expected, $kind) < 0;
        $signed{$name} = [$kind, $held];
        if ($expected eq 'nd') {
            my $x = $kind eq 'd' ? $held : double_of($held);
            refuse('number_out_of_range', "$name: $held") if $kind eq 'n' && $x - $x != 0;
            $signed{$name} = ['d', nano($name, $x) / 1e9];
        }
        refuse('epoch_invalid', "epoch: $held")
            if $name eq 'epoch' && ($held !~ /^(?:0|[1-9][0-9]*)\z/ || $held > $INTEGER_MAX);
        refuse('hex_invalid', $name) if $name =~ /^[mp]/ && $held !~ /^[0-9a-f]{64}\z/;
        check_shard_id($held) if $name eq 'shard_id';
    }
    return %signed;
}

# Give the payload, and for version 2 the digest of the body.
sub payload ($record, $version) {
    my %signed = signed_members($record);
    return jcs(['o', \%signed]) if $version == 1;
    my %whole = (%$record, %signed);
    delete $whole{sig};
    my $body = sha256_hex(jcs(['o', \%whole]));
    return (jcs(['o', {%signed, body => ['s', $body], sig_v => ['n', 2]}]), $body);
}

# Give the signature, and the record that is sent.
sub sign_hmac ($record, $key, %with) {
    refuse('key_unusable', "key: expected $KEY_BYTES_MIN bytes or more")
        if length $key < $KEY_BYTES_MIN && !$with{allow_short_key};
    my %sent = (%$record);
    delete @sent{qw(sig sig_v alg kid tenant_id)};
    @sent{qw(alg kid)} = (['s', 'HMAC'], ['s', $with{kid}]) if defined $with{kid};
    if ($with{version} == 2) {
        $sent{sig_v} = ['n', 2];
        $sent{tenant_id} = ['s', $with{tenant}] if defined $with{tenant};
        $sent{$_} || refuse('member_missing', $_) for qw(alg kid tenant_id);
    }
    my ($payload) = payload(\%sent, $with{version});
    my $sig = encode_base64(hmac_sha256(sha256($payload), $key), '');
    return ($sig, jcs(['o', {%sent, signed_members(\%sent), sig => ['s', $sig]}]));
}

# Give the derived id and the content digest.
sub identity ($record) {
    my %signed = signed_members($record);
    my %content = (%$record, %signed);
    delete @content{@NO_CONTENT};
    my $named = join '|', map { $signed{$_}[1] } qw(merkle_root epoch shard_id);
    return (sha256_hex($named), sha256_hex(jcs(['o', \%content])));
}

1;
