"""TeX that only sets mathematics.

MathJax searches for formulas in everything that a page shows as HTML, Markdown or LaTeX. Some of
its commands link, load, define others or name their parts. Here a text passes only if every
command in it is on a list of those that set symbols, fonts and layout.

A text is checked as MathJax reads it: the characters between two tags, with entities resolved. It
isn't split into formulas first, since every reader splits differently. A command outside of a
formula counts as if it were in one.
"""

from __future__ import annotations

import html
import re

# MathJax 3's own tables of single symbols: its base, ams and upgreek packages.
_SYMBOLS = """
    aleph alpha amalg And angle approx approxeq Arrowvert arrowvert ast asymp backepsilon
    backprime backsim backsimeq backslash barwedge Bbbk because beta beth between bigcap
    bigcirc bigcup bigodot bigoplus bigotimes bigsqcup bigstar bigtriangledown bigtriangleup
    biguplus bigvee bigwedge blacklozenge blacksquare blacktriangle blacktriangledown
    blacktriangleleft blacktriangleright bot bowtie Box boxdot boxminus boxplus boxtimes
    bracevert bullet Bumpeq bumpeq Cap cap cdot cdotp cdots centerdot checkmark chi circ
    circeq circlearrowleft circlearrowright circledast circledcirc circleddash circledR
    circledS clubsuit colon complement cong coprod Cup cup curlyeqprec curlyeqsucc curlyvee
    curlywedge curvearrowleft curvearrowright dagger daleth dashleftarrow dashrightarrow dashv
    ddagger ddots Delta delta diagdown diagup Diamond diamond diamondsuit digamma div
    divideontimes divsymbol Doteq doteq doteqdot dotplus dotsb dotsc dotsi dotsm dotso
    doublebarwedge doublecap doublecup Downarrow downarrow downdownarrows downharpoonleft
    downharpoonright ell emptyset epsilon eqcirc eqsim eqslantgtr eqslantless equiv eta eth
    exists fallingdotseq Finv flat forall frown Game Gamma gamma ge geq geqq geqslant gets gg
    ggg gggtr gimel gnapprox gneq gneqq gnsim gt gtrapprox gtrdot gtreqless gtreqqless gtrless
    gtrsim gvertneqq hbar heartsuit hookleftarrow hookrightarrow hslash iiiint iiint iint Im
    imath in infty int intercal intop iota jmath Join kappa Lambda lambda land langle lbrace
    lbrack lceil ldotp ldots le leadsto Leftarrow leftarrow leftarrowtail leftharpoondown
    leftharpoonup leftleftarrows Leftrightarrow leftrightarrow leftrightarrows
    leftrightharpoons leftrightsquigarrow leftthreetimes leq leqq leqslant lessapprox lessdot
    lesseqgtr lesseqqgtr lessgtr lesssim lfloor lgroup lhd ll llcorner Lleftarrow lll llless
    lmoustache lnapprox lneq lneqq lnot lnsim Longleftarrow longleftarrow Longleftrightarrow
    longleftrightarrow longmapsto Longrightarrow longrightarrow looparrowleft looparrowright
    lor lozenge lrcorner Lsh lt ltimes lVert lvert lvertneqq maltese mapsto measuredangle mho
    mid models mp mu multimap nabla natural ncong ne nearrow neg neq nexists ngeq ngeqq
    ngeqslant ngtr ni nLeftarrow nleftarrow nLeftrightarrow nleftrightarrow nleq nleqq
    nleqslant nless nmid notin nparallel nprec npreceq nRightarrow nrightarrow nshortmid
    nshortparallel nsim nsubseteq nsubseteqq nsucc nsucceq nsupseteq nsupseteqq ntriangleleft
    ntrianglelefteq ntriangleright ntrianglerighteq nu nVDash nVdash nvDash nvdash nwarrow
    odot oint Omega omega omicron ominus oplus oslash otimes owns parallel partial perp Phi
    phi Pi pi pitchfork pm prec precapprox preccurlyeq preceq precnapprox precneqq precnsim
    precsim prime prod propto Psi psi rangle rbrace rbrack rceil Re restriction rfloor rgroup
    rhd rho Rightarrow rightarrow rightarrowtail rightharpoondown rightharpoonup
    rightleftarrows rightleftharpoons rightrightarrows rightsquigarrow rightthreetimes
    risingdotseq rmoustache Rrightarrow Rsh rtimes rVert rvert S searrow setminus sharp
    shortmid shortparallel Sigma sigma sim simeq smallfrown smallint smallsetminus smallsmile
    smile spadesuit sphericalangle sqcap sqcup sqsubset sqsubseteq sqsupset sqsupseteq square
    star Subset subset subseteq subseteqq subsetneq subsetneqq succ succapprox succcurlyeq
    succeq succnapprox succneqq succnsim succsim sum Supset supset supseteq supseteqq
    supsetneq supsetneqq surd swarrow tau therefore Theta theta thickapprox thicksim times to
    top triangle triangledown triangleleft trianglelefteq triangleq triangleright
    trianglerighteq twoheadleftarrow twoheadrightarrow ulcorner unlhd unrhd upalpha Uparrow
    uparrow upbeta upchi Updelta updelta Updownarrow updownarrow upepsilon upeta Upgamma
    upgamma upharpoonleft upharpoonright upiota upkappa Uplambda uplambda uplus upmu upnu
    Upomega upomega upomicron Upphi upphi Uppi uppi Uppsi uppsi uprho Upsigma upsigma Upsilon
    upsilon uptau Uptheta uptheta upuparrows Upupsilon upupsilon upvarepsilon upvarphi upvarpi
    upvarrho upvarsigma upvartheta Upxi upxi upzeta urcorner varDelta varepsilon varGamma
    varkappa varLambda varnothing varOmega varPhi varphi varPi varpi varpropto varPsi varrho
    varSigma varsigma varsubsetneq varsubsetneqq varsupsetneq varsupsetneqq varTheta vartheta
    vartriangle vartriangleleft vartriangleright varUpsilon varXi Vdash vDash vdash vdots vee
    veebar Vert vert Vvdash wedge wp wr Xi xi yen zeta
    """
_FUNCTIONS = """
    arccos arcsin arctan arg bmod cos cosh cot coth csc deg det dim exp gcd hom inf injlim ker
    lg lim liminf limsup ln log max min mod operatorname pmod pod Pr projlim sec sin sinh sup
    tan tanh varinjlim varliminf varlimsup varprojlim
    """
_FONTS = """
    Bbb bf boldsymbol cal emph frak hbox it mathbb mathbf mathcal mathfrak mathit mathnormal
    mathrm mathscr mathsf mathtt mathup mbox mit oldstyle rm scr sf text textbf textit
    textnormal textrm textsf texttt textup tt
    """
# No commands with a length (`\kern`, `\raise`, `\rule`): they draw outside of the output. None that
# set their argument twice (`\pmb`, `\mathchoice`): nested, they take exponential time.
_LAYOUT = """
    acute atop bar Big big Bigg bigg Biggl biggl Biggm biggm Biggr biggr Bigl bigl Bigm bigm
    Bigr bigr binom boxed Bra bra brace brack Braket braket breve cases centernot cfrac check
    choose cr dbinom ddddot dddot ddot dfrac dot dots enspace fbox frac grave hat hdashline
    hline hphantom idotsint iff impliedby implies Ket ket ketbra LaTeX left limits mathbin
    mathclose mathinner mathop mathopen mathord mathpunct mathrel mathring mathstrut matrix
    middle negmedspace negthickspace negthinspace newline nobreakspace nolimits nonumber not
    notag of over overbrace overleftarrow overleftrightarrow overline overparen overrightarrow
    overset overunderset phantom pmatrix qquad quad right root shoveleft shoveright sideset
    sqrt stackbin stackrel strut substack tag tbinom TeX tfrac thinspace tilde underbrace
    underleftarrow underleftrightarrow underline underparen underrightarrow underset vec
    vphantom widehat widetilde xleftarrow xrightarrow
    """
# They apply to all that follows in their group, so they count towards the depth as braces do.
_STYLES = frozenset(
    """
    displaystyle textstyle scriptstyle scriptscriptstyle color
    tiny Tiny scriptsize small normalsize large Large LARGE huge Huge
    """.split()
)
_COMMANDS = _STYLES.union(*(it.split() for it in (_SYMBOLS, _FUNCTIONS, _FONTS, _LAYOUT)))
# Commands of one character that is not a letter: spaces, braces, delimiters, accents in `\text`.
_SIGNS = frozenset(" \t\n,:;!>{}|#$%&_()[]'\"`^~=.")

_ENVIRONMENTS = """
    align aligned Bmatrix bmatrix bsmallmatrix cases dcases drcases eqnarray equation flalign gather
    gathered matrix multline pmatrix psmallmatrix rcases smallmatrix split Vmatrix vmatrix
    """.split()
_PLAIN = "|".join(_ENVIRONMENTS)
# What must follow a command. Numbers are small: MathJax makes any number of columns.
_FOLLOWED_BY = {
    "begin": re.compile(
        rf"\{{(?:(?:{_PLAIN})\*?\}}|(?:array|subarray)\}}(?:\[[tbc]\])?\{{[clr|:\s]{{1,99}}\}}"
        r"|(?:alignat\*?|alignedat)\}\{\d\})"
    ),
    "end": re.compile(rf"\{{(?:(?:{_PLAIN}|alignat)\*?|array|subarray|alignedat)\}}"),
    "color": (_colour := re.compile(r"\s*\{(?:[a-zA-Z]{1,20}|#[0-9a-fA-F]{3,8})\}")),
    "textcolor": _colour,
    "hspace": re.compile(r"\s*\{\s*\d{1,2}(?:\.\d{1,3})?\s*(?:em|ex|mu|pt|px|mm|cm)\s*\}"),
    # Their options become attributes of the element that they make.
    **dict.fromkeys(("cancel", "bcancel", "xcancel"), re.compile(r"\s*\{")),
    # The length after a new line may not be negative, which would pull the next line up.
    "\\": re.compile(
        r"(?!\s*\*?\s*\[)|\s*\*?\s*\[\s*\d{0,2}(?:\.\d{1,3})?\s*(?:em|ex|mu|pt|px|mm|cm)\s*\]"
    ),
}

_token = re.compile(r"\\([a-zA-Z]+|.)?|[{}$&]", re.S)
_delimiter = re.compile(r"\$[^$]*\$|\\[(\[]|\\(?:begin|ref|eqref)(?![a-zA-Z])")
_tag = re.compile(r"<[a-zA-Z/!?]")

# MathJax takes seconds for so much, and blocks the page meanwhile.
LONGEST = 100_000
_DEEPEST = 100


def has_formula(text: str) -> bool:
    """Return whether MathJax could find a formula in the text."""
    return _delimiter.search(text) is not None


def is_safe_tex(text: str) -> bool:
    """Return whether MathJax may read the text: plain text, or mathematics and nothing else."""
    return not has_formula(text) or (len(text) <= LONGEST and _only_sets_mathematics(text))


def is_inert_tex(text: str) -> bool:
    """Return whether a page may get the text as LaTeX, although it may read it as HTML."""
    return _tag.search(text) is None and is_safe_tex(text) and is_safe_tex(html.unescape(text))


def as_text(text: str) -> str:
    """Return the text, for a reader of plain text and formulas, without unsafe formulas.

    In an unsafe text, dollars and backslashes become wide characters of the same look.
    """
    return text if is_safe_tex(text) else text.translate({0x24: "\uff04", 0x5C: "\uff3c"})


def _only_sets_mathematics(text: str) -> bool:
    # For each open group: how many styles it has started, and whether it is a table. A style ends
    # with its group; in a table, with its cell.
    groups = [(0, False)]
    styles = 0
    for token in _token.finditer(text):
        name, sign = token[1], token[0]
        if sign[0] == "\\" and not (name and _is_allowed(name, text, token.end())):
            return False
        begun, is_table = groups[-1]
        if sign == "{" or name in ("begin", "left"):
            groups.append((0, name == "begin"))
        elif (sign == "}" or name in ("end", "right")) and len(groups) > 1:
            groups.pop()
            styles -= begun
        elif name in _STYLES:
            groups[-1] = (begun + 1, is_table)
            styles += 1
        elif (is_table and (sign == "&" or name == "\\")) or (sign == "$" and len(groups) == 1):
            groups[-1] = (0, is_table)
            styles -= begun
        if len(groups) + styles > _DEEPEST:
            return False
    return True


def _is_allowed(name: str, text: str, end: int) -> bool:
    if (following := _FOLLOWED_BY.get(name)) is not None:
        return following.match(text, end) is not None
    return name in _COMMANDS or name in _SIGNS
