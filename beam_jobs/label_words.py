"""The words by which a column of a log looks like a label or an event type, in the languages of shops."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Names of labels and of event types, as `plain` writes them.
LABEL_NAMES = _words(
    """
    addedtocart addtocart bought buy click clickedflag clickflag clicklabel clicks clk conversion converted ctrlabel
    engaged engagement feedback hasclicked hit impression impressions isbought isbuy iscart isclick isclicked isclk
    isconverted isorder ispositive ispurchase ispurchased isrelevant label labels like liked outcome positive
    purchase purchased relevance response reward target view viewed views wasclicked watched y ytrue
    """
)
EVENT_TYPE_NAMES = _words(
    """
    action actionname actiontype activity activitytype behavior behaviortype behaviour behaviourtype event
    accion acao aktion ereignis ereignistyp evenement evento tipoevento typeevenement
    eventaction eventcategory eventcode eventid eventkind eventname events eventtypeid evt evtname evttype hittype
    interaction interactionname interactiontype kind op operation trackingtype type useraction userevent usereventtype
    verb
    """
)
#: Words of what a user does, as `plain` writes them.
EVENT_TYPES = _words(
    """
    addcart addedtocart addtobasket addtocart addtowishlist basket begincheckout bought buy cart checkout click
    clicked clicks clk detail details dislike display expose exposed exposure fav favorite favourite imp impression
    impressions itemview like open order ordered pageview pageviews play productclick productview productviewed
    purchase purchased purchases pv rate rating removecart removefromcart sale search select selectitem share show
    shown skip sold transaction view viewed viewitem views visit wishlist
    angesehen angezeigt ansicht bestellt bestellung gekauft geklickt gemerkt kauf klick merkliste warenkorb
    achat ajoutpanier clic commande favori panier vu vue carrinho carrito clique compra favorito vista visto
    visualizacao visualizacion
    """
)
GRADE_NAMES = _words("grade rating ratings reviewscore stars")
YES_NO = (
    {"j", "n"}, {"ja", "nein"}, {"ja", "nee"}, {"ja", "nej"}, {"o", "n"}, {"oui", "non"}, {"s", "n"}, {"si", "no"},
    {"sí", "no"}, {"sì", "no"}, {"sim", "não"}, {"sim", "nao"}, {"tak", "nie"}, {"да", "нет"}, {"on", "off"},
    {"wahr", "falsch"}, {"vrai", "faux"}, {"positive", "negative"}, {"pos", "neg"}, {"+", "-"},
)  # fmt: skip
#: Parts of names that tell what a user did, as in num_clicks, purchased_qty and order_id.
DEEDS = _words(
    """
    add added addtocart atc basket bought buy buys cart carts click clicked clicks clk clks conversion conversions
    convert converted impression impressions imp imps order ordered orders purchase purchased purchases transaction
    """
)
#: Parts that go with them.
OF_DEEDS = _words(
    """
    at bool cnt count date datetime first flag has id ind indicator is item last no num number on product qty quantity
    time timestamp total ts user was
    """
)
#: Parts of names of event types, as in behavior_code.
DEED_KINDS = _words("action activity behavior behaviour event interaction")
KINDS = _words("category class code kind label name no nr num number type typ")
