"""Short texts of our own in many languages, and the code page that each was written in before Unicode."""

from __future__ import annotations

__all__ = ["LANGUAGES"]

LANGUAGES = {
    "French": (
        "cp1252",
        "Le garçon a mangé à l'école où sa mère l'avait laissé, et il a dû rentrer très tôt. Ça ne lui "
        "plaisait guère, mais les élèves étaient déjà partis vers la forêt.",
    ),
    "Portuguese": (
        "cp1252",
        "O coração da cidade não pára: as crianças brincam até à noite, e os avós contam histórias de "
        "pássaros, leões e limões. Você já está lá? Três irmãs vão à estação.",
    ),
    "Italian": (
        "cp1252",
        "Perché la città è così bella di sera? Più tardi andrò al caffè, dove c'è già la virtù di chi sa "
        "aspettare. Lunedì tornerò, però non so se potrà venire anche lui.",
    ),
    "Swedish": (
        "cp1252",
        "Flickan gick över ängen på våren och såg små fåglar som sjöng så vackert. Han hörde hur ån flöt "
        "förbi och tänkte på sin mor, som var långt härifrån.",
    ),
    "Danish": (
        "cp1252",
        "Pigen gik over broen på vej til skolen og så små får på engen. Hun ønskede sig en kage til sin "
        "fødselsdag, men æblerne var ikke modne før efteråret kom.",
    ),
    "Dutch": (
        "cp1252",
        "De geïnteresseerde toeristen uit België zagen één café en één museum; de coördinator zei dat alle "
        "ideeën van de financiële commissie gratis zijn. Ruïnes en reünies.",
    ),
    "English": (
        "cp1252",
        "He said “yes” and paid £5 at the café; the naïve clerk replied “that’s fine” — a cliché, I know. "
        "“And £2 for the rôle?” she asked. It’s the façade of a fiancée’s soirée.",
    ),
    "German": (
        "cp1252",
        "Das Mädchen lief über die Straße, weil der Bäcker früh öffnete. Köln ist größer als Düren, aber "
        "schöner wäre es in Österreich, wo die Züge pünktlich führen.",
    ),
    "Spanish": (
        "cp1252",
        "El niño pequeño comió una manzana mañana por la mañana. ¿Qué pasó después? ¡No lo sé! La señora "
        "bebió café con azúcar en el jardín, según él. Corazón y canción.",
    ),
    "Icelandic": (
        "cp1252",
        "Strákurinn fór í skólann því móðir hans var þegar í vinnunni. Seinna kom hann heim og borðaði "
        "hádegismat með systur sinni, sem einnig var svöng. Það er gott veður.",
    ),
    "Polish": (
        "cp1250",
        "Zażółć gęślą jaźń. Chłopiec poszedł do szkoły, ponieważ jego mama była już w pracy. Później wrócił "
        "do domu i zjadł obiad z siostrą, która też była głodna.",
    ),
    "Czech": (
        "cp1250",
        "Příliš žluťoučký kůň úpěl ďábelské ódy. Děti šly do školy, protože jejich matka už byla v práci. "
        "Později se vrátily domů a snědly oběd se svou sestrou.",
    ),
    "Hungarian": (
        "cp1250",
        "Őszi fűben tücsök énekel. A kisfiú elment az iskolába, mert az édesanyja már dolgozott. Később "
        "hazaért, és megette az ebédjét a nővérével, aki szintén éhes volt.",
    ),
    "Romanian": (
        "cp1250",
        "Băiatul s-a dus la şcoală pentru că mama lui era deja la muncă. Mai târziu s-a întors acasă şi a "
        "mâncat prânzul împreună cu sora lui, căreia îi era foame.",
    ),
    "Slovak": (
        "cp1250",
        "Chlapec išiel do školy, pretože jeho matka už bola v práci. Neskôr sa vrátil domov a zjedol obed so "
        "svojou sestrou, ktorá bola tiež hladná. Kôň a vôňa kvetov.",
    ),
    "Croatian": (
        "cp1250",
        "Dječak je otišao u školu jer je njegova majka već bila na poslu. Kasnije se vratio kući i pojeo "
        "ručak sa sestrom, koja je također bila gladna. Što će žaba čekati?",
    ),
    "Lithuanian": (
        "cp1257",
        "Berniukas nuėjo į mokyklą, nes jo mama jau buvo darbe. Vėliau jis grįžo namo ir pavalgė pietus su "
        "savo seserimi, kuri taip pat buvo alkana. Šiandien žmonės džiaugiasi.",
    ),
    "Latvian": (
        "cp1257",
        "Zēns aizgāja uz skolu, jo viņa māte jau bija darbā. Vēlāk viņš atgriezās mājās un paēda pusdienas ar "
        "savu māsu, kura arī bija izsalkusi. Šodien ļaudis priecājas.",
    ),
    "Turkish": (
        "cp1254",
        "Çocuk okula gitti, çünkü annesi işteydi. Daha sonra eve döndü ve kız kardeşiyle öğle yemeğini yedi; "
        "o da çok açtı. Güneşli bir gün, ağaçların gölgesinde oturdular.",
    ),
    "Russian": ("cp1251", "Мальчик пошёл в школу, потому что его мама уже была на работе."),
    "Greek": ("cp1253", "Το αγόρι πήγε στο σχολείο, επειδή η μητέρα του ήταν ήδη στη δουλειά."),
}
